/**
 * One slot of a replica, and one call in it. Pure: the replica, which has the slots, moves them.
 *
 *     ABSENT ─loaded─► PARKED ─call─► BUSY ─outcome─► ENDING ─dead─► ABSENT
 *
 * A worker is given one call at most, and of each call there is one start at most. A slot has one
 * call at a time. It may have the next while the last one's worker is still ending: that call starts
 * with the next worker, and until then nothing has happened of it. Where each call has a container
 * of its own (`once`) there is no next worker.
 *
 * Times are milliseconds on any one monotonic clock.
 */

import {made} from './messages.js'

/** For how long an outcome that nobody has acknowledged is kept. */
export const HOLD_MS = 40_000
/** Before a caller that disconnected is given up: it may reconnect and ask again. */
export const GONE_MS = 2000
/** Of a shorter call the router hears the outcome alone: an ACCEPT would compete with it. */
export const ACCEPT_MS = 2
/** For how long a worker that has answered waits before it ends, unless that is acknowledged. */
export const RELEASE_MS = 10
/** Between signs of life to the caller. Sending them is also how a lost one is noticed. */
export const BEAT_MS = 500
/** For a worker that has answered, or was killed, to be gone; its output ends then. */
export const DEATH_MS = 1000
/**
 * For a slot's next worker to come: a process that starts anew and loads the handler, unlike a
 * forked one. A slot whose next worker is later isn't counted on.
 */
export const REFILL_MS = 10_000

export const NEVER = Infinity

/** A call that a slot has taken: its caller, its clocks, and its outcome once there is one. */
export class Run {
  constructor(call, caller, {timeout, now}) {
    this.call = call
    this.caller = caller
    this.callerGoneAt = null
    this.timeout = call.timeout_ms === null ? timeout : Math.min(timeout, call.timeout_ms)
    this.deadlineAt = call.deadline_ms === null ? NEVER : now + call.deadline_ms
    this.overdueAt = this.deadlineAt
    this.startedAt = null
    /** When a call that hasn't started is given back. */
    this.giveBackAt = now + REFILL_MS
    this.nextBeat = now + BEAT_MS
    /** When the router is to hear that it runs; never: it has, or it isn't the caller. */
    this.acceptAt = NEVER
    /** Why it failed, known before the worker is dead; its last output then completes it. */
    this.verdict = null
    this.verdictBy = 0
    this.outcome = null
    this.holdUntil = 0
  }

  get isUndecided() {
    return this.outcome === null && this.verdict === null
  }

  start(now) {
    this.startedAt = now
    this.giveBackAt = NEVER
    this.overdueAt = Math.min(now + this.timeout, this.deadlineAt)
  }

  /** What is said of it at `overdueAt`. */
  overdue() {
    if (this.startedAt === null) {
      const message = "the caller's deadline passed before a process was free"
      return made('ERROR', {code: 'deadline_exceeded', message, retry_safe: true})
    }
    if (this.deadlineAt < this.startedAt + this.timeout) {
      const message = "the caller's deadline passed while it ran"
      return made('ERROR', {code: 'deadline_exceeded', message})
    }
    const message = `ran longer than its time-out of ${this.timeout / 1000} s`
    return made('ERROR', {code: 'function_timeout', message})
  }

  /** When its caller, who is gone, is given up. */
  goneBy() {
    return this.callerGoneAt === null ? NEVER : this.callerGoneAt + GONE_MS
  }

  /** When something is to be done about it, if nothing happens before. */
  due() {
    if (this.outcome !== null) return Math.min(this.nextBeat, this.holdUntil, this.goneBy())
    if (this.verdict !== null) return Math.min(this.nextBeat, this.acceptAt, this.verdictBy)
    const {nextBeat, acceptAt, overdueAt, giveBackAt} = this
    return Math.min(nextBeat, acceptAt, overdueAt, giveBackAt, this.goneBy())
  }
}

/** A place for one call at a time: the worker that is there, and the call. */
export class Slot {
  constructor(number, {once, now}) {
    this.number = number
    this.once = once
    /** How its process is: absent, parked, busy, ending. */
    this.worker = 'absent'
    /** When the next worker is to have come; then it is late. */
    this.refillBy = once ? NEVER : now + REFILL_MS
    this.isLate = false
    /** The call that is here and has no outcome yet. */
    this.run = null
    /** The call whose answer came from the worker that is ending. */
    this.answered = null
    /** When a worker that has answered is to end; never: it has been told, or needn't be. */
    this.releaseAt = NEVER
    /** When a worker that should have ended by itself is killed. */
    this.endBy = NEVER
  }

  /** Whether a call that came now would start, at once or with the next worker. */
  get isFree() {
    return this.run === null && !this.isLate
  }

  /** Whether nobody need wait for this slot's worker any more. */
  get hasEnded() {
    return this.worker === 'absent' || (this.worker === 'parked' && !this.once)
  }

  /** A worker waits here. */
  load() {
    this.worker = 'parked'
    this.refillBy = NEVER
    this.isLate = false
  }

  /** Give the call to the worker that waits. */
  start(now) {
    this.run.start(now)
    this.worker = 'busy'
    return {do: 'start', call: this.run.call, slot: this.number}
  }

  /** Its worker has answered, and is to end. */
  answer(run, now) {
    this.answered = run
    this.releaseAt = now + (this.once ? RELEASE_MS : 0)
  }

  /** The call has its outcome: there may be another. */
  vacate(now) {
    this.run = null
    if (this.worker !== 'busy') return
    this.worker = 'ending'
    if (!this.once) this.endBy = now + DEATH_MS
  }

  /** The worker is dead. */
  bury(now) {
    this.worker = 'absent'
    this.releaseAt = this.endBy = NEVER
    if (!this.once) this.refillBy = now + REFILL_MS
  }

  /** Let a worker end that has answered, if it hasn't been let yet. */
  release() {
    if (this.releaseAt === NEVER) return []
    this.releaseAt = NEVER
    return [{do: 'release', slot: this.number}]
  }

  /** When `onTime` has something to do, if nothing happens before. */
  due() {
    return Math.min(this.releaseAt, this.endBy, this.refillBy)
  }

  onTime(now) {
    if (now >= this.refillBy) {
      this.refillBy = NEVER
      this.isLate = true
    }
    if (now >= this.endBy) {
      this.endBy = NEVER
      return [{do: 'kill', slot: this.number}]
    }
    return now >= this.releaseAt ? this.release() : []
  }
}
