/**
 * A replica's line to the process that started it, where FUNKER_LIFELINE names its descriptor: one
 * end of a stream socket. When the other end is closed, that process is gone. Over it the replica
 * says what it is, one line of JSON each time:
 *
 *     {"worker": pid}   its worker's process, which leads a process group of its own
 *     {"state": "idle"}   it is ready
 *     {"state": "failed", "message": …, "traceback": …}   it can't load its handler
 *
 * FUNKER_CANDIDATE=1 says that this replica is a new version's, whose function has an older one that
 * works: should it fail, then only the process that started it is told.
 */

import {fstatSync} from 'node:fs'
import net from 'node:net'

export class Lifeline {
  #socket

  /** `ended` is called when the other side is gone. */
  constructor(fd, {isCandidate, ended}) {
    this.isCandidate = isCandidate
    this.#socket = new net.Socket({fd, readable: true, writable: true})
    this.#socket.on('error', () => {}) // it is gone, which `close` tells
    this.#socket.once('close', ended)
    this.#socket.resume() // or its end would go unnoticed
  }

  says(fields) {
    if (this.#socket.writable) this.#socket.write(`${JSON.stringify(fields)}\n`)
  }
}

/** The line that the environment names, or null. */
export function lifeline(environ, ended) {
  const fd = Number.parseInt(environ.FUNKER_LIFELINE ?? '', 10)
  try {
    fstatSync(fd)
  } catch {
    return null // nothing, or no open descriptor
  }
  return new Lifeline(fd, {isCandidate: environ.FUNKER_CANDIDATE === '1', ended})
}
