/**
 * The process that owns a replica's sockets, signals and clocks, and the workers beside it.
 *
 * It turns what happens (messages, the workers' words and deaths, signals, time) into events for
 * the state machine in `replica.js`, and carries out the actions that come back. It decides
 * nothing.
 */

import {Router} from 'zeromq'

import {Crew} from './crew.js'
import {lifeline} from './lifeline.js'
import {RouterLink, guarded, post} from './link.js'
import {Log} from './log.js'
import {ProtocolError, decode, encode, made} from './messages.js'
import {FAILED_MS, ROUTER, Replica} from './replica.js'

/** To flush what was sent before exiting: sockets have no word for «all is gone». */
const FLUSH_MS = 20
/** For the removal of what calls have left on the disk; a replica has a second to leave. */
const TIDY_MS = 1000
/** The longest that a timer of Node's may be. */
const LONGEST_MS = 2 ** 31 - 1

export class Front {
  #replica
  #socket
  #router = null
  #crew
  #log
  #lifeline
  #told = 'boot'
  #timer = null
  #dueAt = Infinity
  #isExiting = false

  /** `broken`: why there is nothing to load: {message, traceback}. */
  constructor(settings, identity, broken = null) {
    const {once, slots, timeout, maxBody, plain, logLimit} = settings
    this.settings = settings
    this.identity = identity
    this.broken = broken
    this.#log = new Log(identity.function, {plain, limit: logLimit})
    this.#lifeline = lifeline(process.env, () => this.#happened({type: 'terminate'}))
    const kept = this.#lifeline !== null
    const now = performance.now()
    this.#replica = new Replica(identity, {timeout, maxBody, now, kept, slots, once})
    this.#crew = new Crew({...settings, log: this.#log}, (event) => this.#happened(event))
  }

  /** Serve, until the process exits. */
  async run() {
    for (const signal of ['SIGTERM', 'SIGINT']) {
      process.on(signal, () => this.#happened({type: 'terminate'}))
    }
    if (this.broken === null) {
      const worker = this.#crew.start()
      this.#lifeline?.says({worker})
    }
    await this.#listen()
    const {router, keys, maxBody} = this.settings
    if (router) {
      const {session} = this.identity
      this.#router = new RouterLink({router, session, keys, maxBody}, (e) => this.#happened(e))
    }
    this.#receive()
    if (this.broken !== null) {
      this.#log.say(this.broken.message)
      this.#happened({type: 'load-failed', ...this.broken})
    }
    this.#wake()
  }

  async #listen() {
    const {listen, maxBody} = this.settings
    this.#socket = new Router({
      ...guarded(maxBody),
      mandatory: true, // a send to a peer that is gone says so
    })
    const giveUp = performance.now() + FAILED_MS
    for (;;) {
      try {
        return await this.#socket.bind(listen)
      } catch (error) {
        // The replica before us may still be closing its socket, the address may be about to come
        // up; and what stays wrong must not make the process manager spin.
        if (performance.now() > giveUp) {
          this.#log.say(`funker: can't listen on ${listen}: ${error.message}`)
          await this.#log.flush(1000)
          this.#crew.stop()
          process.exit(1)
        }
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    }
  }

  async #receive() {
    for await (const [id, ...frames] of this.#socket) {
      const peer = id.toString('latin1')
      let message
      try {
        message = decode(frames)
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error
        // An ERROR is never answered with one: two confused peers would never stop.
        if (frames[0]?.toString('latin1') === 'ERROR') continue
        const {code, message: text} = error
        this.#act({do: 'send', peer, message: made('ERROR', {code, message: text})})
        continue
      }
      this.#happened({type: 'received', peer, message})
    }
  }

  #happened(event) {
    if (this.#isExiting) return
    if (event.type === 'refused') {
      this.#log.say(event.text)
      return
    }
    for (const action of this.#replica.on(event, performance.now())) this.#act(action)
    const {state} = this.#replica
    if (this.#lifeline !== null && state !== this.#told) {
      this.#told = state
      if (state === 'idle') this.#lifeline.says({state})
      else if (state === 'failed') this.#lifeline.says({state, ...this.#replica.failure})
    }
    this.#wake()
  }

  /** Have a tick come in time. A timer that is early does no harm, and costs less than a new one. */
  #wake() {
    const due = this.#replica.wakeup()
    if (due >= this.#dueAt || this.#isExiting) return
    clearTimeout(this.#timer)
    this.#dueAt = due
    const wait = Math.min(Math.max(due - performance.now(), 0), LONGEST_MS)
    this.#timer = setTimeout(() => {
      this.#dueAt = Infinity
      this.#happened({type: 'tick'})
    }, Math.ceil(wait))
  }

  #act(action) {
    switch (action.do) {
      case 'send':
        return this.#send(action.peer, action.message)
      case 'start':
        return this.#crew.run(action.slot, action.call)
      case 'release':
        return this.#crew.release(action.slot)
      case 'kill':
        return this.#crew.kill(action.slot)
      case 'relink':
        return this.#router.redial()
      case 'exit':
        return this.#exit(action.status)
    }
  }

  #send(peer, message) {
    if (peer === ROUTER) {
      if (message.kind === 'FAILED' && this.#lifeline?.isCandidate) return
      this.#router.send(message)
      return
    }
    const frames = [Buffer.from(peer, 'latin1'), ...encode(message)]
    post(this.#socket, frames, () => this.#happened({type: 'gone', peer}))
  }

  async #exit(status) {
    if (this.#isExiting) return
    this.#isExiting = true
    const gone = this.#crew.stop()
    this.#router?.close(FLUSH_MS)
    this.#socket.linger = FLUSH_MS
    this.#socket.close()
    await this.#log.flush(FLUSH_MS)
    setTimeout(() => process.exit(status), TIDY_MS)
    await gone
    setTimeout(() => process.exit(status), FLUSH_MS)
  }
}
