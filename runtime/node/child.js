/** A worker as the front has it: a process, the conversation with it, its output and its end. */

import {spawn} from 'node:child_process'
import {randomBytes} from 'node:crypto'
import {existsSync, lstatSync, mkdtempSync} from 'node:fs'
import {rm} from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import {fileURLToPath} from 'node:url'

import {Output} from './output.js'
import {receive, send} from './pipe.js'
import {endBearers} from './residue.js'

const WORKER = fileURLToPath(new URL('worker.js', import.meta.url))
/** For a dead worker's last words and output: the log may be blocked, its children live on. */
const OUTPUT_MS = 200
/** Rounds of dummy traffic before it counts as loaded: the first takes twice as long. */
const WARM_ROUNDS = 2
/** Marks a worker's process and all that it starts, unless they take it off. */
const MARK = 'FUNKER_WORKER'

export class Child {
  isLoaded = false
  isDead = false
  /** Of one that is dead: resolves when its files are gone. */
  removed = null
  #process
  #link
  #output
  #mark
  #heard
  #scratch = ''
  #warmRounds = 0
  #maxBody
  #linkEnded

  /**
   * `heard` is told what happens, as events of the replica's without their slot (replica.js), and
   * at last `buried`: nothing of it is left.
   */
  constructor({handler, once, ulimits, maxBody, log}, heard) {
    this.#heard = heard
    this.#maxBody = maxBody
    this.#mark = randomBytes(16).toString('hex')
    const {FUNKER_LIFELINE: _, ...env} = process.env
    env.FUNKER_HANDLER = handler
    env[MARK] = this.#mark
    if (!once) {
      this.#scratch = mkdtempSync(path.join(os.tmpdir(), 'funker-'))
      env.TMPDIR = this.#scratch
    }
    const [command, ...args] = [...launcher(ulimits), process.execPath, WORKER]
    this.#process = spawn(command, args, {
      env,
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
      detached: true, // a session: a Ctrl-C is for the front, and the group can be killed whole
    })
    this.#link = this.#process.stdio[3]
    this.#link.on('error', () => {}) // it has just died, which `exit` tells
    this.#linkEnded = new Promise((resolve) => this.#link.once('close', resolve))
    receive(this.#link, (message, body) => this.#hear(message, body))
    this.#output = new Output(log, this.#process.stdout, this.#process.stderr)
    this.#process.once('error', (error) => this.#bury(`couldn't be started: ${error.message}`))
    this.#process.once('exit', (status, signal) => this.#bury(howItDied(status, signal)))
  }

  get pid() {
    return this.#process.pid
  }

  /** Give it the call, which is all that it ever gets. */
  run(call) {
    this.#output.begin(call.id)
    const {content_type: contentType} = call
    const told = {contentType, scratch: this.#scratch, maxBody: this.#maxBody}
    send(this.#link, {call: told}, call.body ?? Buffer.alloc(0))
  }

  /** Let it end, since it has answered. */
  release() {
    send(this.#link, {end: true})
  }

  /** Kill it and what it started. */
  kill() {
    // The group's number is the worker's own until it has been waited for.
    if (this.isDead || this.pid === undefined) return
    killGroup(this.pid)
  }

  /** The front ends, and this with it. Resolves when its files are gone. */
  discard() {
    this.kill()
    return this.#scratch ? removal(this.#scratch) : null
  }

  #hear(message, body) {
    if (message.loaded || message.warm) {
      if (this.#warmRounds++ < WARM_ROUNDS) {
        send(this.#link, {warm: true}, Buffer.from('{"x":1}'))
        return
      }
      this.isLoaded = true
      this.#heard({type: 'loaded'})
    } else if (message.failed) {
      const {message: text, traceback} = message.failed
      this.#output.say(traceback || text)
      this.#heard({type: 'load-failed', message: text, traceback})
    } else if (message.answer) {
      this.#heard({type: 'answered', contentType: message.answer.contentType, body})
    } else if (message.oversized) {
      const {oversized: size} = message
      this.#heard({type: 'answered', contentType: '', body: Buffer.alloc(0), size})
    } else if (message.error) {
      this.#output.say(message.error.traceback || message.error.message)
      this.#heard({type: 'raised', ...message.error})
    }
  }

  async #bury(how) {
    if (this.isDead) return
    this.isDead = true
    if (this.pid !== undefined) killGroup(this.pid) // what it left running
    if (this.#scratch) endBearers(`${MARK}=${this.#mark}`)
    let timer
    const late = new Promise((resolve) => (timer = setTimeout(resolve, OUTPUT_MS)))
    await Promise.race([Promise.all([this.#linkEnded, this.#output.ended()]), late])
    clearTimeout(timer)
    this.#output.close()
    this.#link.destroy()
    if (this.#scratch) this.removed = removal(this.#scratch)
    this.#heard({type: 'died', how, outputTail: this.#output.tail()})
  }
}

/** What the worker is started by: it has limits, and dies with the front whatever it is doing. */
function launcher(ulimits) {
  const setpriv = program('setpriv') ? ['setpriv', '--pdeathsig', 'KILL'] : []
  const limits = Object.entries(ulimits).map(([name, value]) => `--${name}=${value}`)
  return [...setpriv, ...(limits.length > 0 ? ['prlimit', ...limits] : [])]
}

/** Whether util-linux's program of that name is there. (BusyBox's, a link, can't do it.) */
function program(name) {
  const found = ['/usr/bin', '/bin'].map((directory) => path.join(directory, name)).find(existsSync)
  return found !== undefined && !lstatSync(found).isSymbolicLink()
}

/** Remove a directory. What can't be removed stays, for whoever keeps the front. */
function removal(directory) {
  return rm(directory, {recursive: true, force: true, maxRetries: 3}).catch(() => {})
}

function killGroup(leader) {
  try {
    process.kill(-leader, 'SIGKILL')
  } catch (error) {
    if (error.code !== 'ESRCH') throw error
  }
}

function howItDied(status, signal) {
  if (signal === null) return `exited with status ${status}`
  return `was killed by ${signal}${signal === 'SIGKILL' ? ' (out of memory?)' : ''}`
}
