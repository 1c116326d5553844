/** The state machine: a call's life in both isolations, and that no order of events breaks it. */

import assert from 'node:assert/strict'
import {test} from 'node:test'

import {made} from '../messages.js'
import {BYE_MS, FAILED_MS, LOAD_MS, ROUTER, Replica, SILENCE_MS, STEADY_MS} from '../replica.js'
import {ACCEPT_MS, DEATH_MS, GONE_MS, HOLD_MS, REFILL_MS} from '../slot.js'

const SESSION = 'a'.repeat(32)
const IDENTITY = {
  function: 'add',
  names: ['add'],
  replica: 'add.1',
  session: SESSION,
  node: '',
  version: '',
}

const id = (number) => number.toString(16).padStart(32, '0')
const call = (number, fields = {}) =>
  made('CALL', {id: id(number), function: 'add', session: SESSION, body: Buffer.from('{}'), ...fields})
const from = (peer, message) => ({type: 'received', peer, message})
const loaded = (slot = 0) => ({type: 'loaded', slot, residue: ''})
const answered = (slot = 0, body = Buffer.from('3')) => ({
  type: 'answered',
  slot,
  contentType: 'application/json',
  body,
})
const died = (slot = 0, how = 'exited with status 0') => ({type: 'died', slot, how, outputTail: 'tail'})

function replica(options = {}) {
  return new Replica(IDENTITY, {timeout: 1000, maxBody: 100, now: 0, ...options})
}

/** What is done, in short: `start 0`, `send peer KIND`. */
function brief(actions) {
  return actions.map(({do: act, slot, peer, message, status}) =>
    act === 'send' ? `${peer || 'router'} ${message.kind}` : [act, slot ?? status].join(' ').trim(),
  )
}

function idle(options) {
  const one = replica(options)
  one.on(loaded(), 0)
  return one
}

test('a container takes one call, answers it, and leaves when that is acknowledged', () => {
  const one = idle()
  assert.deepEqual(brief(one.on(from('p', call(1)), 1)), ['start 0', 'p ACCEPT'])
  assert.equal(one.state, 'running')
  const [{message}] = one.on(answered(), 5)
  assert.deepEqual([message.kind, message.times], ['RESULT', {run: 4}])
  assert.equal(one.state, 'holding')
  assert.deepEqual(brief(one.on(from('q', call(2)), 6)), ['q BUSY'])
  assert.deepEqual(brief(one.on(from('p', made('ACK', {id: id(1)})), 7)), ['release 0'])
  assert.deepEqual(brief(one.on(died(), 8)), ['exit 0'])
})

test('a slot of a process takes the next call, with the next worker', () => {
  const one = idle({once: false})
  one.on(from('p', call(1)), 1)
  one.on(answered(), 2)
  assert.equal(one.state, 'idle')
  assert.deepEqual(brief(one.on(from('p', call(2)), 3)), []) // nothing has happened of it yet
  one.on(died(), 4)
  assert.deepEqual(brief(one.on(loaded(), 5)), ['start 0', 'p ACCEPT'])
  // The first one's outcome is still there.
  assert.deepEqual(brief(one.on(from('p', call(1, {resend: true, body: null})), 6)), ['p RESULT'])
})

test('a call for which no worker comes is given back', () => {
  const one = idle({once: false})
  one.on(from('p', call(1)), 1)
  one.on(answered(), 2)
  one.on(from('p', call(2)), 3)
  one.on(died(), 4)
  assert.ok(brief(one.on({type: 'tick'}, 3 + REFILL_MS)).includes('p BUSY'))
  one.on({type: 'tick'}, 4 + REFILL_MS)
  assert.deepEqual(brief(one.on(from('p', call(3)), 5 + REFILL_MS)), ['p BUSY'])
  assert.deepEqual(brief(one.on(loaded(), 6 + REFILL_MS)), [])
  assert.deepEqual(brief(one.on(from('p', call(4)), 7 + REFILL_MS)), ['start 0', 'p ACCEPT'])
})

test('a call that takes too long is killed, and its last output completes the error', () => {
  const one = idle()
  one.on(from('p', call(1, {timeout_ms: 300})), 0)
  assert.deepEqual(brief(one.on({type: 'tick'}, 300)), ['kill 0'])
  const [{message}] = one.on(died(0, 'was killed by SIGKILL (out of memory?)'), 310)
  assert.deepEqual([message.code, message.output_tail], ['function_timeout', 'tail'])
  assert.equal(message.message, 'ran longer than its time-out of 0.3 s')
})

test('a worker that can not be killed does not keep its caller waiting', () => {
  const one = idle()
  one.on(from('p', call(1, {deadline_ms: 300})), 0)
  one.on({type: 'tick'}, 300)
  const sent = one.on({type: 'tick'}, 300 + DEATH_MS).find((action) => action.do === 'send')
  assert.equal(sent.message.code, 'deadline_exceeded')
})

test('a caller that is gone is waited for, and then its call is cancelled', () => {
  const one = idle({timeout: 60_000})
  one.on(from('p', call(1)), 0)
  one.on({type: 'gone', peer: 'p'}, 10)
  assert.deepEqual(brief(one.on({type: 'tick'}, 9 + GONE_MS)), [])
  assert.deepEqual(brief(one.on({type: 'tick'}, 10 + GONE_MS)), ['kill 0'])
})

test('an outcome that nobody acknowledges is kept for so long', () => {
  const one = idle()
  one.on(from('p', call(1)), 0)
  one.on(answered(), 0)
  one.on(died(), 1)
  one.on({type: 'tick'}, HOLD_MS - 1)
  assert.equal(one.state, 'holding')
  assert.deepEqual(brief(one.on({type: 'tick'}, HOLD_MS)), ['exit 0'])
})

test('whoever was told that it is idle hears that it leaves', () => {
  const one = idle()
  one.on(from('p', made('PING', {number: 1})), 0)
  assert.deepEqual(brief(one.on({type: 'terminate'}, 1)), ['p BYE', 'kill 0'])
  assert.deepEqual(brief(one.on(died(), 2)), [])
  assert.deepEqual(brief(one.on({type: 'tick'}, 1 + BYE_MS)), ['exit 0'])
})

test('a worker that dies while it waits is a broken handler at first, and later an accident', () => {
  const one = idle()
  one.on(died(), STEADY_MS - 1)
  assert.equal(one.state, 'failed')
  const other = idle()
  other.on(from('p', made('PING', {number: 1})), 0)
  assert.deepEqual(brief(other.on(died(), STEADY_MS)), ['p BYE'])
  assert.equal(other.state, 'leaving')
  assert.deepEqual(brief(other.on({type: 'tick'}, STEADY_MS + BYE_MS)), ['exit 1'])
})

test('what can not be loaded is told, and ends', () => {
  const one = replica()
  one.on({type: 'linked'}, 0)
  const told = one.on({type: 'load-failed', message: 'no', traceback: 'why'}, 1)
  assert.deepEqual(brief(told), ['router FAILED'])
  const [{message}] = one.on(from('p', call(1)), 2)
  assert.deepEqual([message.code, message.retry_safe], ['init_failed', true])
  assert.ok(brief(one.on({type: 'tick'}, 1 + FAILED_MS)).includes('exit 1'))
  const slow = replica()
  assert.deepEqual(brief(slow.on({type: 'tick'}, LOAD_MS)), ['kill 0'])
  assert.equal(slow.state, 'failed')
})

test('the router hears READY, of longer calls ACCEPT, and is dialled anew if it is silent', () => {
  const one = idle()
  assert.deepEqual(brief(one.on({type: 'linked'}, 0)), ['router READY', 'router PING'])
  assert.deepEqual(brief(one.on(from(ROUTER, call(1)), 1)), ['start 0'])
  assert.deepEqual(brief(one.on({type: 'tick'}, 1 + ACCEPT_MS)), ['router ACCEPT'])
  const pong = made('PONG', {number: 0, epoch: 'e1', stamp: 7})
  assert.deepEqual(brief(one.on(from(ROUTER, pong), 4)), [])
  const [ready, bye] = one.on(from(ROUTER, {...pong, epoch: 'e2'}), 5)
  assert.deepEqual([ready.message.free, ready.message.held], [0, [id(1)]])
  assert.equal(bye.message.kind, 'BYE')
  assert.equal(one.on({type: 'tick'}, 5 + SILENCE_MS).at(-1).do, 'relink')
})

test('no order of events starts a call twice, answers it twice, or breaks it', () => {
  for (let seed = 1; seed <= 300; seed += 1) live(seed)
})

/** One life of random events. */
function live(seed) {
  let state = seed
  const random = (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
  const once = seed % 2 === 0
  const one = replica({once, slots: once ? 1 : 3})
  const open = []
  const started = new Set()
  const outcomes = new Map()
  let now = 0
  let calls = 0

  const fresh = (fields) => {
    const made = call(calls++, fields)
    open.push(made)
    return made
  }
  const known = () => open[random(open.length)] ?? fresh()
  /** A caller that has acknowledged an outcome doesn't ask for it again. */
  const settle = (peer) => {
    const at = open.findIndex((made) => outcomes.has(made.id))
    if (at < 0) return {type: 'tick'}
    const [{id}] = open.splice(at, 1)
    return from(peer, made('ACK', {id}))
  }

  for (let step = 0; step < 150; step += 1) {
    now += random(4) === 0 ? random(3000) : random(20)
    const slot = random(one.slots.length)
    const peer = ['p', 'q', ROUTER][random(3)]
    const events = [
      () => loaded(slot),
      () => from(peer, fresh()),
      () => from(peer, fresh({timeout_ms: random(500), deadline_ms: random(900)})),
      () => from(peer, open.find((made) => !outcomes.has(made.id)) ?? fresh()),
      () => from(peer, {...known(), resend: true, body: null}),
      () => answered(slot, Buffer.alloc(random(2) * 101)),
      () => ({type: 'raised', slot, message: 'no', exceptionType: 'E', traceback: ''}),
      () => died(slot),
      () => settle(peer),
      () => from(peer, made('ACK', {id: SESSION})),
      () => from(peer, made('CANCEL', {id: known().id})),
      () => from(peer, made('PING', {number: step})),
      () => from(ROUTER, made('PONG', {number: 0, epoch: `e${random(2)}`, known: random(3) > 0})),
      () => ({type: 'linked'}),
      () => ({type: 'gone', peer}),
      () => ({type: 'tick'}),
      () => ({type: random(8) ? 'tick' : 'terminate'}),
      () => ({type: random(8) ? 'tick' : 'load-failed', message: 'no', traceback: ''}),
    ]
    for (const action of one.on(events[random(events.length)](), now)) {
      if (action.do === 'exit') return
      if (action.do === 'start') {
        assert.ok(!started.has(action.call.id), `seed ${seed}: started twice`)
        started.add(action.call.id)
      }
      const {message} = action
      if (!['RESULT', 'ERROR'].includes(message?.kind)) continue
      if (started.has(message.id)) {
        // Repeated as often as it is asked for, but always the same.
        assert.equal(message, outcomes.get(message.id) ?? message, `seed ${seed}`)
      } else {
        assert.ok(message.retry_safe, `seed ${seed}: it may have run`)
      }
      outcomes.set(message.id, message)
    }
  }
}
