/**
 * The wire protocol's messages and their codec. Pure: frames in, messages out, and back.
 *
 * A message is a plain object with its `kind` and all fields of that kind, defaults included; a
 * CALL and a RESULT have a `body` as well, a Buffer, or null where the frame is absent (which isn't
 * the same as an empty one). What a field may hold, and its default, is said once, in KINDS.
 * `tests/vectors/messages.json` pins this for all languages; docs/protocol.md has the rules.
 */

/** The version of the protocol that this module speaks. */
export const PROTOCOL = 1
/** Bytes. The router and the front parse headers, so a header is never large. */
export const MAX_HEADER = 64 * 1024
/** Bytes; the default of a setting (`FUNKER_MAX_BODY`). */
export const MAX_BODY = 16 * 1024 * 1024
/** The port on which a replica hears direct calls. */
export const REPLICA_PORT = 5570

export const JSON_TYPE = 'application/json'
export const TEXT_TYPE = 'text/plain; charset=utf-8'
export const BYTES_TYPE = 'application/octet-stream'

/** Bytes of JSON that a text keeps in a header that is too large. */
const CLIPPED = {
  message: 4096,
  hint: 1024,
  exception_type: 1024,
  traceback: 24 * 1024,
  text: 24 * 1024,
  output_tail: 24 * 1024,
}

/** Frames that break the protocol's rules. */
export class ProtocolError extends Error {
  name = 'ProtocolError'
  code = 'protocol_error'
}

/** A header that is too large, though its texts were cut. */
export class PayloadTooLarge extends Error {
  name = 'PayloadTooLarge'
  code = 'payload_too_large'
}

// The header's types. JSON has one type for numbers: what is whole counts as an integer here, also
// if it was written with a point.
const isText = (value) => typeof value === 'string'
const isTruth = (value) => typeof value === 'boolean'
const isCount = (value) => Number.isSafeInteger(value) && value >= 0
const isId = (value) => isText(value) && /^[0-9a-f]{32}$/.test(value) && value.length === 32
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value)
const isTexts = (value) => Array.isArray(value) && value.every(isText)
const isTimes = (value) => isObject(value) && Object.values(value).every(isCount)
const orNull = (check) => (value) => value === null || check(value)

/** A field: its check, and its default; without one it has to be there. */
const field = (check, standard) => ({check, standard})
const text = (standard) => field(isText, standard)
const count = (standard) => field(isCount, standard)
const truth = (standard) => field(isTruth, standard)
const id = () => field(isId)

/** By kind: the fields, and whether a body may follow. */
const KINDS = new Map(
  Object.entries({
    CALL: {
      body: true,
      fields: {
        id: id(),
        function: text(),
        timeout_ms: field(orNull(isCount), null),
        deadline_ms: field(orNull(isCount), null),
        session: text(''),
        attempt: count(1),
        idempotent: truth(false),
        content_type: text(JSON_TYPE),
        traceparent: text(''),
        resend: truth(false),
        accepted_by: text(''),
      },
    },
    ACCEPT: {fields: {id: id(), replica: text('')}},
    BUSY: {fields: {id: id(), session: text('')}},
    RESULT: {
      body: true,
      fields: {
        id: id(),
        content_type: text(JSON_TYPE),
        replica: text(''),
        times: field(isTimes, Object.freeze({})),
      },
    },
    ERROR: {
      fields: {
        id: field(orNull(isId), null),
        code: text(),
        message: text(),
        hint: text(''),
        function: text(''),
        replica: text(''),
        exception_type: text(''),
        traceback: text(''),
        output_tail: text(''),
        retry_safe: truth(false),
      },
    },
    ACK: {fields: {id: id(), wait_ms: field(orNull(isCount), null)}},
    CANCEL: {fields: {id: id()}},
    READY: {
      fields: {
        function: text(),
        replica: text(),
        node: text(''),
        version: text(''),
        session: id(),
        free: count(1),
        slots: count(1),
        held: field(isTexts, Object.freeze([])),
        once: truth(false),
        residue: text(''),
        protocol: count(PROTOCOL),
      },
    },
    FAILED: {
      fields: {
        function: text(),
        replica: text(),
        version: text(''),
        session: id(),
        message: text(),
        traceback: text(''),
      },
    },
    BYE: {fields: {replica: text(), session: id(), held: field(isTexts, Object.freeze([]))}},
    PING: {fields: {number: count(), function: text(''), echo: count(0)}},
    PONG: {
      fields: {
        number: count(),
        epoch: text(''),
        stamp: count(0),
        known: truth(true),
        function: text(''),
        names: field(isTexts, Object.freeze([])),
        replica: text(''),
        session: text(''),
        state: text(''),
        message: text(''),
        traceback: text(''),
        protocol: count(PROTOCOL),
      },
    },
    OUTPUT: {fields: {id: id(), text: text()}},
    QUERY: {
      fields: {
        number: count(),
        what: text(),
        function: text(''),
        id: text(''),
        limit: count(0),
      },
    },
    SNAPSHOT: {body: true, fields: {number: count()}},
    REPLY: {body: true, fields: {number: count(), error: text('')}},
    DEMAND: {body: true, fields: {}},
  }).map(([kind, {body = false, fields}]) => {
    const standards = Object.entries(fields).filter(([, {standard}]) => standard !== undefined)
    const defaults = Object.fromEntries(standards.map(([name, {standard}]) => [name, standard]))
    return [kind, {kind, body, fields, defaults: body ? {...defaults, body: null} : defaults}]
  }),
)

/**
 * A message of a kind, its other fields at their defaults: `made('ACK', {id})`.
 * @throws {TypeError} if one is missing, or is none of that kind's.
 */
export function made(kind, values) {
  const {fields, body, defaults} = KINDS.get(kind)
  for (const name in values) {
    if (!(name in fields) && !(body && name === 'body')) {
      throw new TypeError(`${kind} has no ${name}`)
    }
  }
  const message = {kind, ...defaults, ...values}
  for (const name in fields) {
    if (message[name] === undefined) throw new TypeError(`${kind} lacks ${name}`)
  }
  return message
}

/**
 * The message as frames.
 *
 * Texts that may be long (messages, tracebacks, output) lose their beginnings where the header
 * would exceed 64 KiB.
 * @throws {PayloadTooLarge} if that isn't enough: a huge name or list.
 */
export function encode(message) {
  const {kind, fields, defaults} = KINDS.get(message.kind)
  const header = {}
  for (const name in fields) {
    if (!isSame(message[name], defaults[name])) header[name] = message[name]
  }
  let frame = Buffer.from(JSON.stringify(header))
  if (frame.length > MAX_HEADER) {
    for (const [name, limit] of Object.entries(CLIPPED)) {
      if (name in header) header[name] = clip(header[name], limit)
    }
    frame = Buffer.from(JSON.stringify(header))
  }
  if (frame.length > MAX_HEADER) {
    throw new PayloadTooLarge(`${kind} header of ${frame.length} bytes exceeds ${MAX_HEADER}`)
  }
  const frames = [Buffer.from(kind), frame]
  if (message.body !== null && message.body !== undefined) frames.push(message.body)
  return frames
}

/** Whether a value is its field's default, and needn't be sent. */
function isSame(value, standard) {
  if (value === standard) return true
  if (typeof standard !== 'object' || standard === null) return false
  return Object.keys(value).length === 0 // an empty list, no times
}

// Insists on UTF-8, and doesn't pass over a byte order mark, which isn't JSON.
const utf8 = new TextDecoder('utf-8', {fatal: true, ignoreBOM: true})

/**
 * The message in `frames` (Buffers).
 * @throws {ProtocolError} whatever is wrong with them.
 */
export function decode(frames) {
  if (frames.length < 2 || frames.length > 3) {
    throw new ProtocolError(`a message has 2 or 3 frames, got ${frames.length}`)
  }
  const described = KINDS.get(frames[0].toString('latin1'))
  if (described === undefined) {
    throw new ProtocolError(`unknown kind ${short(frames[0].toString('latin1', 0, 16))}`)
  }
  const {kind, fields, body, defaults} = described
  const message = {kind, ...defaults}
  const header = parsed(kind, frames[1])
  for (const name in fields) {
    if (!Object.hasOwn(header, name)) continue
    const value = header[name]
    if (!fields[name].check(value)) {
      throw new ProtocolError(`${kind} header: bad ${name} ${short(value)}`)
    }
    message[name] = value
  }
  if (frames.length === 3) {
    if (!body) throw new ProtocolError(`${kind} carries no body`)
    message.body = frames[2]
  }
  const missing = Object.keys(fields).filter((name) => message[name] === undefined)
  if (missing.length > 0) throw new ProtocolError(`${kind} lacks ${missing.join(', ')}`)
  return message
}

function parsed(kind, frame) {
  if (frame.length > MAX_HEADER) {
    throw new ProtocolError(`${kind} header of ${frame.length} bytes exceeds ${MAX_HEADER}`)
  }
  let header
  try {
    header = JSON.parse(utf8.decode(frame))
  } catch (error) {
    throw new ProtocolError(`${kind} header isn't JSON: ${error.name}`)
  }
  if (!isObject(header)) throw new ProtocolError(`${kind} header isn't a JSON object`)
  return header
}

/** `text/plain` of `Text/Plain; charset=utf-8`: types are compared without case (RFC 9110). */
export function mediaType(contentType) {
  return contentType.split(';', 1)[0].trim().toLowerCase()
}

/**
 * The end of a text (that's where tracebacks and logs say most), at most `limit` bytes of JSON.
 *
 * Characters differ in what they cost (1 to 6 bytes), hence the loop.
 */
export function clip(text, limit) {
  text = text.slice(-limit)
  for (let size; (size = Buffer.byteLength(JSON.stringify(text))) > limit; ) {
    text = text.slice(Math.max(1, text.length - Math.floor((text.length * limit) / size)))
  }
  return /^[\udc00-\udfff]/.test(text) ? text.slice(1) : text // half a character is none
}

function short(value) {
  const text = JSON.stringify(value)
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`
}
