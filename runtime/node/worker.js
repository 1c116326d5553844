/**
 * The process that runs the handler: loads it, waits, runs one call, and is gone.
 *
 * Started by the front (child.js) with a session of its own, the front's end of their conversation
 * (pipe.js) as descriptor 3, and pipes to the front as stdout and stderr.
 */

import net from 'node:net'

import {described} from './described.js'
import {invoke, load} from './loader.js'
import {JSON_TYPE} from './messages.js'
import {receive, send} from './pipe.js'

const front = new net.Socket({fd: 3, readable: true, writable: true})
front.on('error', () => process.exit(0))
front.on('close', () => process.exit(0)) // the front left without a call

let handler
try {
  handler = await load(process.env.FUNKER_HANDLER)
} catch (error) {
  send(front, {failed: described(error)})
  front.end(() => process.exit(1))
}

if (handler !== undefined) {
  receive(front, heard)
  send(front, {loaded: true})
}

async function heard(message, body) {
  if (message.end) process.exit(0)
  if (message.warm) {
    const answer = await invoke((value) => value, JSON_TYPE, body)
    send(front, {warm: true}, answer.body)
    return
  }
  const {contentType, scratch, maxBody} = message.call
  if (scratch) process.chdir(scratch)
  try {
    const answer = await invoke(handler, contentType, body ?? Buffer.alloc(0))
    // The end of a process delays others: the front says when, once the answer has gone.
    if (answer.body.length > maxBody) send(front, {oversized: answer.body.length})
    else send(front, {answer: {contentType: answer.contentType}}, answer.body)
  } catch (error) {
    send(front, {error: described(error)})
    front.end(() => process.exit(0))
  }
}
