/**
 * The replica's log: what workers print, each line with the call that printed it, on stdout and
 * stderr, for the engine to keep.
 *
 *     {"time":"2026-01-31T12:00:00.123Z","function":"add","call":"…","stream":"stdout","text":"hi"}
 *
 * On a terminal, or with FUNKER_LOG=plain, it is passed on as it comes. Nothing here waits: a log
 * that takes nothing holds its writers up for STALL_MS, and then loses what they write.
 */

import fs from 'node:fs'
import net from 'node:net'
import tty from 'node:tty'

/** Bytes of a line with all that is around its text: what Docker's log drivers don't break up. */
export const MAX_LINE = 16 * 1024
/** Bytes that wait to be written before their writers are held up. */
const BACKLOG = 256 * 1024
const STALL_MS = 100

const STREAMS = {1: 'stdout', 2: 'stderr'}

export class Log {
  #function
  #plain
  #sinks = {}
  #held = new Set()
  #fullSince = null

  /** `limit` is in bytes, for each call. */
  constructor(name, {plain, limit}) {
    this.limit = limit
    this.#function = JSON.stringify(name)
    for (const fd of [1, 2]) this.#sinks[fd] = new Sink(fd, () => this.#count())
    this.#plain = plain || tty.isatty(1)
  }

  /** Whether what comes now is lost. */
  get isBlocked() {
    return this.#fullSince !== null && performance.now() - this.#fullSince >= STALL_MS
  }

  /** A text of the front's own, about a call or none. */
  say(text, call = null) {
    for (const line of text.replace(/\n$/, '').split('\n')) this.line(line, {call, stream: 2})
  }

  /** Text without a line break at its end; a long one in several lines. */
  line(text, {call, stream}) {
    if (this.#plain) return this.raw(`${text}\n`, stream)
    const time = new Date().toISOString()
    const head =
      `{"time":"${time}","function":${this.#function},"call":${JSON.stringify(call)}` +
      `,"stream":"${STREAMS[stream]}","text":`
    for (const pieces = [text]; pieces.length > 0; ) {
      const piece = pieces.pop()
      const line = Buffer.from(`${head}${JSON.stringify(piece)}}\n`)
      if (line.length > MAX_LINE) {
        const middle = piece.length >> 1
        pieces.push(piece.slice(middle), piece.slice(0, middle))
      } else {
        this.#put(line, stream)
      }
    }
  }

  /** Pass bytes on as they are, if lines have no form here; whether so. */
  raw(data, stream) {
    if (this.#plain) this.#put(Buffer.from(data), stream)
    return this.#plain
  }

  /** Read no more from a stream while too much waits to be written. */
  hold(stream) {
    if (this.#fullSince === null || this.isBlocked) return
    stream.pause()
    this.#held.add(stream)
    setTimeout(() => this.#letGo(), STALL_MS).unref()
  }

  /** Resolves when all is written, but doesn't wait for a log that is blocked. */
  async flush(ms) {
    const written = Promise.all(Object.values(this.#sinks).map((sink) => sink.written()))
    let timer
    await Promise.race([written, new Promise((resolve) => (timer = setTimeout(resolve, ms)))])
    clearTimeout(timer)
  }

  #put(data, stream) {
    if (this.isBlocked) return
    this.#sinks[stream].write(data)
    this.#count()
  }

  #count() {
    const waiting = Object.values(this.#sinks).reduce((sum, sink) => sum + sink.waiting, 0)
    if (waiting >= BACKLOG) {
      this.#fullSince ??= performance.now()
    } else if (this.#fullSince !== null) {
      this.#fullSince = null
      this.#letGo()
    }
  }

  #letGo() {
    for (const stream of this.#held) stream.resume()
    this.#held.clear()
  }
}

/** One descriptor to write to, in order and without waiting. */
class Sink {
  /** Bytes that wait to be written. */
  waiting = 0
  #queue = []
  #socket = null
  #idle = []

  constructor(fd, wrote) {
    this.fd = fd
    this.wrote = wrote
    const kind = fs.fstatSync(fd)
    if (!kind.isFIFO() && !kind.isSocket()) return
    // A pipe: written when there is room in it. A file is always ready, and the pool of threads
    // that writes to it isn't held up.
    this.#socket = new net.Socket({fd, readable: false, writable: true})
    this.#socket.on('error', () => {}) // the reader is gone: that must not fail a call
    this.#socket.unref?.()
  }

  write(data) {
    this.waiting += data.length
    if (this.#socket !== null) {
      this.#socket.write(data, () => this.#done(data.length))
      return
    }
    this.#queue.push(data)
    if (this.#queue.length === 1) this.#next()
  }

  /** Resolves when nothing waits. */
  written() {
    return this.waiting === 0 ? null : new Promise((resolve) => this.#idle.push(resolve))
  }

  #next() {
    const [data] = this.#queue
    fs.write(this.fd, data, (error, count) => {
      // A full disk, a closed terminal: that must not fail a call.
      if (error === null && count < data.length) {
        this.#queue[0] = data.subarray(count)
        this.#done(count)
        return this.#next()
      }
      this.#queue.shift()
      this.#done(data.length)
      if (this.#queue.length > 0) this.#next()
    })
  }

  #done(count) {
    this.waiting -= count
    this.wrote()
    if (this.waiting === 0) for (const resolve of this.#idle.splice(0)) resolve()
  }
}
