/**
 * The workers of a replica's slots, and one ahead: Node.js can't fork, so the process for the next
 * call is started while this one runs.
 */

import {Child} from './child.js'
import {RESIDUE} from './residue.js'

/** Workers in a row that end while they load, after which no more are started. */
const TRIES = 3

export class Crew {
  #options
  #heard
  #children = []
  #ahead = null
  #barren = 0
  #isStopped = false
  /** What is being removed of those that are dead. */
  #removals = new Set()

  /** `heard` is told the replica's events (replica.js), with the slots' numbers. */
  constructor({slots, once, ...options}, heard) {
    this.#options = {once, ...options}
    this.#heard = heard
    this.once = once
    this.slots = slots
  }

  /** Start the first. The others follow when it has loaded the handler, if that can be loaded. */
  start() {
    this.#children[0] = this.#spawn()
    return this.#children[0].pid ?? 0
  }

  run(slot, call) {
    this.#children[slot].run(call)
  }

  release(slot) {
    this.#children[slot]?.release()
  }

  kill(slot) {
    this.#children[slot]?.kill()
  }

  /** Be rid of all of them; nobody wants to hear of it. Resolves when their files are gone. */
  async stop() {
    this.#isStopped = true
    const all = [...this.#children, this.#ahead].map((child) => child?.discard())
    await Promise.all([...all, ...this.#removals])
  }

  #spawn() {
    const child = new Child(this.#options, (event) => this.#happened(child, event))
    return child
  }

  #happened(child, event) {
    if (this.#isStopped) return
    const slot = this.#children.indexOf(child)
    switch (event.type) {
      case 'loaded':
        this.#barren = 0
        if (slot >= 0) this.#heard({...event, slot, residue: this.once ? '' : RESIDUE})
        if (!this.once) this.#fill()
        return
      case 'load-failed':
        this.#heard(event)
        return
      case 'died':
        this.#remember(child.removed)
        if (slot >= 0) {
          this.#children[slot] = undefined
          this.#heard({...event, slot})
        } else if (child === this.#ahead) {
          this.#ahead = null
        }
        // Hearing of it may have been the end of all.
        if (!this.once && !this.#isStopped) this.#refill(child, event)
        return
      default:
        this.#heard({...event, slot})
    }
  }

  #remember(removal) {
    if (removal === null) return
    this.#removals.add(removal)
    removal.then(() => this.#removals.delete(removal))
  }

  /** Have a worker in each slot, and one ahead. */
  #fill() {
    for (let slot = 0; slot < this.slots; slot += 1) {
      if (this.#children[slot] !== undefined) continue
      const child = (this.#children[slot] = this.#ahead ?? this.#spawn())
      this.#ahead = null
      if (child.isLoaded) this.#heard({type: 'loaded', slot, residue: RESIDUE})
    }
    this.#ahead ??= this.#spawn()
  }

  #refill(dead, {how, outputTail}) {
    if (!dead.isLoaded) this.#barren += 1
    if (this.#barren < TRIES) {
      this.#fill()
    } else {
      const message = `the function's processes end while they load; the last one ${how}`
      this.#heard({type: 'load-failed', message, traceback: outputTail})
    }
  }
}
