/** A worker's stdout and stderr: on their way to the log, with the tail kept for error messages. */

import {MAX_LINE} from './log.js'

/** Bytes of output that travel with an error. */
const TAIL = 8192

export class Output {
  #log
  #call = null
  #left
  #tail = Buffer.alloc(0)
  #rests = {1: Buffer.alloc(0), 2: Buffer.alloc(0)}
  // Bytes that are in no log: beyond the limit, and of a log that was blocked.
  #beyond = 0
  #lost = 0
  #open = 0
  #ended = []
  #isClosed = false

  constructor(log, stdout, stderr) {
    this.#log = log
    this.#left = log.limit
    for (const [number, stream] of [
      [1, stdout],
      [2, stderr],
    ]) {
      this.#open += 1
      stream.on('data', (data) => {
        this.#came(number, data)
        log.hold(stream)
      })
      stream.once('close', () => {
        this.#open -= 1
        if (this.#open === 0) for (const resolve of this.#ended.splice(0)) resolve()
      })
      stream.on('error', () => {}) // the same as its end
    }
  }

  /** What comes from now on is the call's with this id, and its limit begins anew. */
  begin(call) {
    this.#call = call
    this.#left = this.#log.limit
  }

  /** The end of all that was printed, whatever came of it in the log. */
  tail() {
    return this.#tail.toString()
  }

  /** Log a text of the front's own about this worker; it's no part of the tail. */
  say(text) {
    this.#log.say(text, this.#call)
  }

  /** Resolves when both streams have ended. */
  ended() {
    return this.#open === 0 ? null : new Promise((resolve) => this.#ended.push(resolve))
  }

  /** The end of what is logged. */
  close() {
    this.#isClosed = true
    for (const number of [1, 2]) {
      if (this.#rests[number].length > 0) this.#line(number, this.#rests[number])
    }
    const limit = `a call may log ${this.#log.limit} bytes (FUNKER_LOG_LIMIT)`
    this.#tell(this.#beyond, limit)
    this.#tell(this.#lost, 'it was blocked')
  }

  #tell(count, why) {
    if (count > 0) this.say(`funker: ${count} bytes of output are not in the log: ${why}`)
  }

  #came(number, data) {
    if (this.#isClosed) return // of the worker's own children, which live on
    this.#tail = Buffer.concat([this.#tail, data]).subarray(-TAIL)
    if (this.#log.isBlocked) {
      this.#lost += data.length
      return
    }
    const allowed = data.subarray(0, this.#left)
    this.#left -= allowed.length
    this.#beyond += data.length - allowed.length
    if (this.#log.raw(allowed, number)) return
    let rest = Buffer.concat([this.#rests[number], allowed])
    for (let end; (end = rest.indexOf(10)) >= 0; rest = rest.subarray(end + 1)) {
      this.#line(number, rest.subarray(0, end))
    }
    if (rest.length >= MAX_LINE) {
      this.#line(number, rest)
      rest = Buffer.alloc(0)
    }
    this.#rests[number] = rest
  }

  #line(number, line) {
    this.#log.line(line.toString(), {call: this.#call, stream: number})
  }
}
