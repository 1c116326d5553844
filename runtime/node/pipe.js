/**
 * What front and worker say to each other, over one stream: a line of JSON with its length before
 * it, and the body, if there is one, with its own.
 *
 *     worker → front   {loaded: true} | {failed: {message, traceback}}
 *     front → worker   {warm: true} + body → echoed    {call: {contentType, scratch, maxBody}} + body
 *     worker → front   {answer: {contentType}} + body | {oversized: bytes}
 *                      | {error: {message, exceptionType, traceback}}
 *     front → worker   {end: true}, of an answer
 */

/** Two lengths: of the JSON, and of the body and one; 0: there is none. */
const HEAD = 8

/** Sends a message; `body` is a Buffer or null. */
export function send(stream, message, body = null) {
  const text = Buffer.from(JSON.stringify(message))
  const head = Buffer.allocUnsafe(HEAD)
  head.writeUInt32BE(text.length, 0)
  head.writeUInt32BE(body === null ? 0 : body.length + 1, 4)
  stream.cork()
  stream.write(Buffer.concat([head, text]))
  if (body !== null) stream.write(body)
  stream.uncork()
}

/** Calls `heard(message, body)` for each message that comes. */
export function receive(stream, heard) {
  let chunks = []
  let size = 0
  let wanted = HEAD
  stream.on('data', (chunk) => {
    chunks.push(chunk)
    size += chunk.length
    // Put together only when a whole message is there: a large body comes in many chunks.
    while (size >= wanted) {
      const data = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks, size)
      chunks = [data]
      const json = data.readUInt32BE(0)
      const body = data.readUInt32BE(4)
      const end = HEAD + json + Math.max(0, body - 1)
      if (size < end) {
        wanted = end
        return
      }
      const message = JSON.parse(data.subarray(HEAD, HEAD + json))
      const rest = data.subarray(end)
      chunks = rest.length > 0 ? [rest] : []
      size = rest.length
      wanted = HEAD
      heard(message, body === 0 ? null : data.subarray(HEAD + json, end))
    }
  })
}
