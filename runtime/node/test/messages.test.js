/** The codec, held to the vectors that all languages share. */

import assert from 'node:assert/strict'
import {readFileSync} from 'node:fs'
import {test} from 'node:test'

import {MAX_HEADER, PayloadTooLarge, ProtocolError, clip, decode, encode, made} from '../messages.js'

const ID = '0123456789abcdef0123456789abcdef'
const path = new URL('../../../tests/vectors/messages.json', import.meta.url)
const vectors = JSON.parse(readFileSync(path, 'utf8'))

/** A frame's bytes, from how a vector writes it (tests/vectors/README.md). */
function frame(written) {
  if (typeof written === 'string') return Buffer.from(written)
  if (Array.isArray(written)) return Buffer.concat(written.map(frame))
  if ('base64' in written) return Buffer.from(written.base64, 'base64')
  return Buffer.from(written.repeat.repeat(written.times))
}

/** The message that a vector means. */
function meant({kind, fields, body}) {
  if (body === undefined) return {kind, ...fields}
  return {kind, ...fields, body: body === null ? null : frame(body)}
}

test('every valid vector decodes to its message', () => {
  for (const vector of vectors.filter((one) => one.message)) {
    assert.deepEqual(decode(vector.frames.map(frame)), meant(vector.message), vector.name)
  }
})

test('every message encodes to frames that say the same', () => {
  for (const vector of vectors.filter((one) => one.message && !one.decode_only)) {
    const [kind, header, ...body] = encode(meant(vector.message))
    const [expectedKind, expectedHeader, ...expectedBody] = vector.frames.map(frame)
    assert.deepEqual(kind, expectedKind, vector.name)
    assert.deepEqual(JSON.parse(header), JSON.parse(expectedHeader), vector.name)
    assert.deepEqual(body, expectedBody, vector.name)
  }
})

test('every invalid vector is a protocol error', () => {
  const invalid = vectors.filter((one) => one.error)
  assert.ok(invalid.length > 30)
  for (const vector of invalid) {
    assert.throws(() => decode(vector.frames.map(frame)), ProtocolError, vector.name)
  }
})

test('a header that would be too large loses the beginning of its texts', () => {
  const traceback = `${'ü'.repeat(100_000)} the end`
  const frames = encode(made('ERROR', {id: ID, code: 'x', message: 'm', traceback}))
  assert.ok(frames[1].length <= MAX_HEADER)
  assert.ok(decode(frames).traceback.endsWith('ü the end'))
  const names = Array(5000).fill('a name that is long')
  assert.throws(() => encode(made('PONG', {number: 1, names})), PayloadTooLarge)
})

test('a clipped text has whole characters and at most so many bytes', () => {
  for (const text of ['plain', '𝄞'.repeat(100), '\n\u0000'.repeat(50), 'ü'.repeat(60)]) {
    const clipped = clip(text, 64)
    assert.ok(Buffer.byteLength(JSON.stringify(clipped)) <= 64)
    assert.ok(text.endsWith(clipped))
    assert.ok(!/^[\udc00-\udfff]/.test(clipped))
  }
})

test('a message is made of its own fields, all of them', () => {
  assert.deepEqual(made('CANCEL', {id: ID}), {kind: 'CANCEL', id: ID})
  assert.throws(() => made('CANCEL', {}), /lacks id/)
  assert.throws(() => made('CANCEL', {id: ID, colour: 'green'}), /no colour/)
})
