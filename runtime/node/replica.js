/**
 * The life of a replica, as a pure state machine: events in, actions out, no clock, no sockets.
 *
 *     BOOT ─loaded─► IDLE ─CALL─► RUNNING ─outcome─► HOLDING ─ACK, caller gone─► LEAVING ─► exit 0
 *       │              └───────────────────SIGTERM──────────────────────────────────┘
 *       └─can't load─► FAILED ─5 s, SIGTERM─► exit 1
 *
 * It is the Python runtime's (runtime/python/funker_runtime/replica.py), whose states, reasons and
 * invariants it has. Both are held to tests/conformance.
 *
 * Events, each an object with its `type`:
 *
 *     loaded {slot, residue}                  the slot's worker has the handler and waits
 *     load-failed {message, traceback}
 *     received {peer, message}
 *     linked                                  a connection to the router stands
 *     gone {peer}                             a peer's connection is no more
 *     answered {slot, contentType, body, size}   size: of one that is too large to be here
 *     raised {slot, message, exceptionType, traceback}
 *     died {slot, how, outputTail}            how: «exited with status 3», «was killed by SIGABRT»
 *     terminate                               SIGTERM or SIGINT
 *     tick                                    time has passed
 *
 * Actions, each an object that says what to `do`: send {peer, message}, start {call, slot},
 * release {slot}, kill {slot}, relink, exit {status}.
 *
 * A peer is the text of its routing id; times are milliseconds on any one monotonic clock.
 */

import {made} from './messages.js'
import {ACCEPT_MS, BEAT_MS, DEATH_MS, HOLD_MS, NEVER, Run, Slot} from './slot.js'

/** The router as a peer. (No peer of the listening socket has an empty routing id.) */
export const ROUTER = ''

/** To load the handler. Longer is a hang: an import that waits for a server, say. */
export const LOAD_MS = 120_000
/**
 * For how long a replica whose handler can't be loaded lingers, telling callers why. Then it exits
 * for a fresh try; the wait keeps a broken function from spinning in the engine.
 */
export const FAILED_MS = 5000
/** After which a worker that dies while it waits is an accident, not a broken handler. */
export const STEADY_MS = 1000
/** For the peers that were told «idle» to acknowledge the BYE. */
export const BYE_MS = 300
/** After which a peer that was told «idle» won't call on the strength of it any more. */
export const PROBE_MS = 5000
/** Without a word from the router, after which its name is looked up and dialled anew. */
export const SILENCE_MS = 2000
/** Outcomes that are kept at once, unacknowledged; no more calls are taken meanwhile. */
const MAX_HELD = 256

export class Replica {
  /**
   * `slots` places for calls; `once`: a single call in all. One that is `kept` has a process beside
   * it that starts the next: it needn't linger so that a broken function doesn't spin.
   */
  constructor(identity, {timeout, maxBody, now, kept = false, slots = 1, once = true}) {
    // boot, leaving, failed, or idle: in service, and `state` says how it is.
    this.stage = 'boot'
    /** Why the handler can't be loaded. */
    this.failure = {message: '', traceback: ''}
    this.identity = identity
    this.timeout = timeout
    this.maxBody = maxBody
    this.kept = kept
    this.once = once
    this.residue = ''
    this.status = 0 // to exit with
    this.actions = []
    this.loadBy = now + LOAD_MS
    this.failedUntil = 0
    this.steadyAt = 0
    // Peers that were told «idle», and when: they may be about to call.
    this.probed = new Map()
    this.slots = Array.from({length: slots}, (_, number) => new Slot(number, {once, now}))
    // The calls that are here, running or held, by id. The last one of a replica that takes no
    // more calls stays known until the process ends.
    this.runs = new Map()
    // Whether it takes no more calls.
    this.closed = false
    this.leaveBy = 0
    this.exitBy = 0
    // The router: whether it is there, its life, and when it was heard and is to be asked.
    this.linked = false
    this.epoch = ''
    this.stamp = 0
    this.routerHeardAt = 0
    this.routerPingAt = 0
  }

  /** How it looks from outside: in service it is idle as long as any place is free. */
  get state() {
    if (this.stage !== 'idle' || this.#isFree()) return this.stage
    const runs = [...this.runs.values()]
    return runs.length > 0 && runs.every((run) => run.outcome !== null) ? 'holding' : 'running'
  }

  /** What is to be done about an event, in order. */
  on(event, now) {
    this.actions = []
    switch (event.type) {
      case 'received':
        this.#onMessage(event.peer, event.message, now)
        break
      case 'answered':
        this.#onAnswer(this.slots[event.slot], event, now)
        break
      case 'loaded':
        this.#onLoaded(this.slots[event.slot], event.residue, now)
        break
      case 'died':
        this.#onDeath(this.slots[event.slot], event, now)
        break
      case 'raised':
        this.#onRaised(this.slots[event.slot], event, now)
        break
      case 'linked':
        this.linked = true
        this.routerHeardAt = now
        this.#announce(now)
        this.#pingRouter(now)
        break
      case 'gone':
        this.#onGone(event.peer, now)
        break
      case 'load-failed':
        if (this.stage === 'boot') this.#fail(event, now)
        else this.#onBarren(now)
        break
      case 'terminate':
        this.#onTerminate(now)
        break
    }
    this.#onTime(now)
    return this.actions
  }

  /** When `on({type: 'tick'}, …)` is due at the latest. */
  wakeup() {
    const due = this.#due()
    return this.linked ? Math.min(due, this.routerPingAt) : due
  }

  #due() {
    switch (this.stage) {
      case 'boot':
        return this.loadBy
      case 'failed':
        return this.failedUntil
      case 'leaving':
        return Math.min(this.leaveBy, this.exitBy)
    }
    let due = NEVER
    for (const run of this.runs.values()) due = Math.min(due, run.due())
    for (const slot of this.slots) due = Math.min(due, slot.due())
    return due
  }

  // Messages

  #onMessage(peer, message, now) {
    if (peer === ROUTER) this.routerHeardAt = now
    switch (message.kind) {
      case 'CALL':
        return this.#onCall(peer, message, now)
      case 'ACK':
        return this.#onAck(peer, message, now)
      case 'PONG': {
        if (peer !== ROUTER) return
        const anew = !message.known || !['', message.epoch].includes(this.epoch)
        this.epoch = message.epoch
        this.stamp = message.stamp
        if (anew) this.#announce(now)
        return
      }
      case 'PING':
        if (this.state === 'idle') this.#noteProbe(peer, now)
        return this.#send(peer, this.#pong(message.number))
      case 'CANCEL': {
        const run = this.runs.get(message.id)
        if (!run?.isUndecided) return
        const verdict = made('ERROR', {code: 'cancelled', message: 'the caller cancelled it'})
        return this.#condemn(run, verdict, now)
      }
      // Other kinds are for others; a replica that doesn't need them isn't hurt by them.
    }
  }

  #onAck(peer, {id, wait_ms}, now) {
    if (id === this.identity.session) {
      this.probed.delete(peer)
      if (this.stage === 'failed' && wait_ms !== null) this.failedUntil = now + wait_ms
    } else if (this.stage === 'idle') {
      const run = this.runs.get(id)
      if (run !== undefined && run.outcome !== null) this.#settle(run, now)
    }
  }

  #onCall(peer, call, now) {
    const {identity} = this
    const run = this.runs.get(call.id)
    if (run !== undefined) {
      run.caller = peer
      run.callerGoneAt = null
      if (run.outcome !== null) this.#send(peer, run.outcome)
      else if (run.startedAt !== null) this.#send(peer, this.#accept(run))
    } else if (call.session !== identity.session) {
      // Meant for who had this address before: whatever else is wrong, it isn't ours to say.
      this.#send(peer, this.#busy(call))
    } else if (!identity.names.includes(call.function)) {
      const message = `this replica serves ${identity.function}, not ${call.function}`
      this.#refuse(peer, call, {code: 'function_not_found', message})
    } else if (this.stage === 'failed') {
      this.#refuse(peer, call, {code: 'init_failed', ...this.failure})
    } else if (call.resend && call.body === null) {
      this.#send(peer, this.#busy(call)) // it asks what became of it: nothing, here
    } else if (!this.#isFree()) {
      this.#send(peer, this.#busy(call))
    } else if (call.deadline_ms === 0) {
      const message = 'its deadline had passed on arrival'
      this.#refuse(peer, call, {code: 'deadline_exceeded', message})
    } else if (call.body !== null && call.body.length > this.maxBody) {
      const message = `the body has ${call.body.length} bytes, the limit is ${this.maxBody}`
      this.#refuse(peer, call, {code: 'payload_too_large', message})
    } else {
      this.#take(peer, call, now)
    }
  }

  #refuse(peer, call, fields) {
    const error = made('ERROR', {id: call.id, retry_safe: true, ...fields})
    this.#send(peer, this.#signed(error))
  }

  #onGone(peer, now) {
    this.probed.delete(peer)
    if (peer === ROUTER) this.linked = false
    for (const run of this.runs.values()) {
      if (run.caller !== peer) continue
      if (peer === ROUTER) run.acceptAt = NEVER // back again, it hears what is held here
      else run.callerGoneAt ??= now
    }
  }

  // A call's beginning

  #isFree() {
    return this.stage === 'idle' && this.#places() > 0
  }

  /** How many calls could be taken now. */
  #places() {
    if (this.closed || this.runs.size >= MAX_HELD) return 0
    return this.slots.filter((slot) => slot.isFree).length
  }

  #take(peer, call, now) {
    const free = this.slots.filter((slot) => slot.isFree)
    const slot = free.find((one) => one.worker === 'parked') ?? free[0]
    const run = new Run(call, peer, {timeout: this.timeout, now})
    slot.run = run
    this.runs.set(call.id, run)
    if (slot.worker === 'parked') this.#start(slot, run, now)
    if (this.once) {
      this.probed.delete(peer) // it knows; the router does since READY
      this.#close(now)
    }
  }

  #start(slot, run, now) {
    // Before it is told: nobody can see the difference, and the telling takes time.
    this.actions.push(slot.start(now))
    if (run.caller !== ROUTER) this.#send(run.caller, this.#accept(run))
    else if (this.linked) run.acceptAt = now + ACCEPT_MS
  }

  #onLoaded(slot, residue, now) {
    const used = this.once && this.stage !== 'boot'
    if (!['boot', 'idle'].includes(this.stage) || used || slot.worker !== 'absent') return
    slot.load()
    if (this.stage === 'boot') {
      this.stage = 'idle'
      this.residue = residue
      this.steadyAt = now + STEADY_MS
      this.#announce(now)
    } else if (slot.run !== null) {
      this.#start(slot, slot.run, now)
    }
  }

  // A call's end

  #onAnswer(slot, {contentType, body, size = body.length}, now) {
    const {run} = slot
    if (run === null || run.startedAt === null || !run.isUndecided) return
    const {id} = run.call
    let outcome
    if (size > this.maxBody) {
      const message = `the answer has ${size} bytes, the limit is ${this.maxBody}`
      outcome = made('ERROR', {id, code: 'payload_too_large', message})
    } else {
      const {replica} = this.identity
      const times = {run: Math.round(now - run.startedAt)}
      outcome = made('RESULT', {id, content_type: contentType, replica, times, body})
    }
    slot.answer(run, now)
    this.#finish(run, outcome, now)
  }

  #onRaised({run}, {message, exceptionType, traceback}, now) {
    if (run === null || run.startedAt === null || !run.isUndecided) return
    const fields = {code: 'function_error', message, exception_type: exceptionType, traceback}
    this.#decide(run, made('ERROR', fields), now)
  }

  /** The call has failed; its worker is ending and may still have output. */
  #decide(run, verdict, now) {
    run.verdict = verdict
    run.verdictBy = now + DEATH_MS
  }

  #condemn(run, verdict, now) {
    if (run.startedAt === null) {
      this.#finish(run, {...verdict, retry_safe: true}, now)
      return
    }
    this.#decide(run, verdict, now)
    for (const slot of this.slots) {
      if (slot.run === run) this.actions.push({do: 'kill', slot: slot.number})
    }
  }

  #onDeath(slot, {how, outputTail}, now) {
    const {run} = slot
    const unused = slot.worker === 'parked'
    slot.bury(now)
    if (this.stage === 'boot' || (this.stage === 'idle' && unused && this.once)) {
      // An idle worker dies of a background task or for lack of memory.
      if (this.stage === 'idle' && (this.kept || now >= this.steadyAt)) {
        this.status = 1
        this.#sayBye(now)
        this.#leave(now)
        return
      }
      const message = `the function's process ${how} before any call`
      this.#fail({message, traceback: outputTail}, now)
    } else if (run !== null && run.startedAt !== null) {
      const message = `the function's process ${how} before it answered`
      const verdict = run.verdict ?? made('ERROR', {code: 'function_crashed', message})
      this.#finish(run, {...verdict, output_tail: outputTail}, now)
    } else if (slot.answered !== null) {
      this.#reportOutput(slot.answered, outputTail)
      slot.answered = null
    }
  }

  #finish(run, outcome, now) {
    if (outcome.kind === 'ERROR') outcome = this.#signed({...outcome, id: run.call.id})
    run.outcome = outcome
    run.call = {...run.call, body: null}
    run.holdUntil = now + HOLD_MS
    run.acceptAt = NEVER
    for (const slot of this.slots) if (slot.run === run) slot.vacate(now)
    this.#send(run.caller, outcome)
  }

  /** Nobody will ask for this outcome any more. */
  #settle(run, now) {
    if (this.closed && this.runs.size === 1) {
      this.#leave(now)
      return
    }
    this.runs.delete(run.call.id)
  }

  /** No worker has come for it: it is certainly not accepted. */
  #giveBack(run, now) {
    this.runs.delete(run.call.id)
    for (const slot of this.slots) if (slot.run === run) slot.run = null
    this.#send(run.caller, this.#busy(run.call))
    if (this.closed && this.runs.size === 0) this.#leave(now)
  }

  // Leaving

  #onTerminate(now) {
    if (this.stage === 'boot') return this.#exit(0)
    if (this.stage === 'failed') return this.#exit(1)
    if (this.stage !== 'idle' || this.closed) return
    this.#close(now)
    if (this.runs.size > 0) return
    for (const slot of this.slots) {
      if (!slot.hasEnded) this.actions.push({do: 'kill', slot: slot.number})
    }
    this.#leave(now)
  }

  /** No slot will be refilled: what runs ends, and a fresh replica is better than this one. */
  #onBarren(now) {
    if (this.stage !== 'idle') return
    this.status = 1
    if (!this.closed) this.#close(now)
    for (const run of [...this.runs.values()]) {
      if (run.startedAt === null && run.outcome === null) this.#giveBack(run, now)
    }
    if (this.runs.size === 0 && this.stage === 'idle') this.#leave(now)
  }

  #fail({message, traceback}, now) {
    this.#sayBye(now)
    this.stage = 'failed'
    this.failure = {message, traceback}
    this.failedUntil = now + FAILED_MS
    this.#announce(now, {isNews: true})
  }

  /** From now on no call is taken. */
  #close(now) {
    this.closed = true
    this.#sayBye(now)
  }

  #leave(now) {
    this.stage = 'leaving'
    this.exitBy = now + DEATH_MS
    for (const slot of this.slots) this.actions.push(...slot.release())
  }

  #exit(status) {
    this.actions.push({do: 'exit', status})
  }

  #noteProbe(peer, now) {
    this.probed.set(peer, now)
    if (this.probed.size > 256) this.#forgetProbes(now)
  }

  #forgetProbes(now) {
    for (const [peer, at] of this.probed) {
      if (peer !== ROUTER && now - at > PROBE_MS) this.probed.delete(peer)
    }
  }

  #sayBye(now) {
    this.#forgetProbes(now)
    this.leaveBy = now + BYE_MS
    const {replica, session} = this.identity
    const held = [...this.runs.keys()]
    for (const peer of this.probed.keys()) {
      this.#send(peer, made('BYE', {replica, session, held}))
    }
  }

  // Time

  #onTime(now) {
    if (this.stage === 'idle') {
      for (const run of [...this.runs.values()]) this.#onTimeOf(run, now)
      for (const slot of this.slots) this.actions.push(...slot.onTime(now))
    } else if (this.stage === 'boot' && now >= this.loadBy) {
      this.actions.push({do: 'kill', slot: 0})
      const message = `loading the handler took longer than ${LOAD_MS / 1000} s`
      this.#fail({message, traceback: ''}, now)
    } else if (this.stage === 'failed' && now >= this.failedUntil) {
      this.#exit(1)
    }
    if (this.stage === 'leaving') {
      const heard = this.probed.size === 0 || now >= this.leaveBy
      const ended = this.slots.every((slot) => slot.hasEnded) || now >= this.exitBy
      if (heard && ended) {
        this.#exit(this.status)
      } else if (heard) {
        this.probed.clear()
        this.leaveBy = this.exitBy
      }
    }
    if (this.linked && now >= this.routerHeardAt + SILENCE_MS) {
      this.linked = false
      this.actions.push({do: 'relink'})
    } else if (this.linked && now >= this.routerPingAt) {
      this.#pingRouter(now)
    }
  }

  #onTimeOf(run, now) {
    if (now < run.due()) return
    const gone = now >= run.goneBy()
    if (run.isUndecided && now >= run.overdueAt) this.#condemn(run, run.overdue(), now)
    if (run.isUndecided && gone) {
      this.#condemn(run, made('ERROR', {code: 'cancelled', message: 'its caller is gone'}), now)
    }
    if (run.isUndecided && now >= run.giveBackAt) return this.#giveBack(run, now)
    if (now >= run.acceptAt) {
      run.acceptAt = NEVER
      this.#send(ROUTER, this.#accept(run))
    }
    if (run.verdict !== null && run.outcome === null && now >= run.verdictBy) {
      this.#finish(run, run.verdict, now)
    }
    if (run.outcome !== null && (gone || now >= run.holdUntil)) {
      this.#settle(run, now)
    } else if (now >= run.nextBeat) {
      run.nextBeat = now + BEAT_MS
      if (run.callerGoneAt === null && run.caller !== ROUTER) {
        this.#send(run.caller, this.#pong(0, 'busy'))
      }
    }
  }

  // The router

  /** Tell the router, if there is one, who is here and what it holds. */
  #announce(now, {isNews = false} = {}) {
    if (!this.linked) return
    const {function: name, replica, node, version, session} = this.identity
    const who = {function: name, replica, version, session}
    if (this.stage === 'failed') {
      // One that had loaded it, and lost its worker to an accident, says so once: a router that
      // is new knows of no other and would take it for the function's own failing.
      if (isNews || this.steadyAt === 0) this.#send(ROUTER, made('FAILED', {...who, ...this.failure}))
      return
    }
    // What has started: of the rest it isn't certain that it will run here.
    const held = [...this.runs.values()].filter(
      (run) => run.caller === ROUTER && (run.startedAt !== null || run.outcome !== null),
    )
    // Not ready yet, or it takes nothing more: none of the router's business.
    if (this.stage !== 'idle' || (this.closed && held.length === 0)) return
    this.probed.set(ROUTER, now)
    const ready = {
      ...who,
      node,
      free: this.#places(),
      slots: this.slots.length,
      held: held.map((run) => run.call.id),
      once: this.once,
      residue: this.residue,
    }
    this.#send(ROUTER, made('READY', ready))
    for (const run of held) run.acceptAt = NEVER
    if (this.closed) this.#sayBye(now) // a router that doesn't know it yet must not count on it
  }

  #pingRouter(now) {
    this.routerPingAt = now + BEAT_MS
    this.#send(ROUTER, made('PING', {number: 0, echo: this.stamp}))
  }

  /** An error has brought its output along; an answer didn't wait for the end of it. */
  #reportOutput(run, text) {
    if (run.caller === ROUTER && text && run.outcome?.kind === 'RESULT') {
      this.#send(ROUTER, made('OUTPUT', {id: run.call.id, text}))
    }
  }

  // What it says

  #send(peer, message) {
    this.actions.push({do: 'send', peer, message})
  }

  #accept({call}) {
    return made('ACCEPT', {id: call.id, replica: this.identity.replica})
  }

  #busy({id}) {
    return made('BUSY', {id, session: this.identity.session})
  }

  #signed(error) {
    return {...error, function: this.identity.function, replica: this.identity.replica}
  }

  #pong(number, state = ['boot', 'idle', 'failed'].includes(this.state) ? this.state : 'busy') {
    const {function: name, names, replica, session} = this.identity
    const failure = state === 'failed' ? this.failure : {}
    return made('PONG', {number, function: name, names, replica, session, state, ...failure})
  }
}
