/** From a handler's name to a function, and from bytes to its argument and back. */

import {existsSync} from 'node:fs'
import path from 'node:path'
import {pathToFileURL} from 'node:url'

import {BYTES_TYPE, JSON_TYPE, TEXT_TYPE, mediaType} from './messages.js'

/** The handler's name leads to no function. The message says which part is wrong. */
export class HandlerError extends Error {
  name = 'HandlerError'
}

/** The body isn't the JSON that it claims to be, or the answer can't be sent. */
export class ValueError extends Error {
  name = 'ValueError'
}

const SUFFIXES = ['.mjs', '.js', '.cjs', '']

/**
 * The function named `module:export`. The module is a path from the working directory, without
 * its suffix; the export may be dotted (`app:api.handle`).
 */
export async function load(name) {
  const [, module, names] = /^(.+):([^:]+)$/.exec(name) ?? []
  if (module === undefined) {
    throw new HandlerError(`handler "${name}" isn't of the form module:export`)
  }
  const candidates = SUFFIXES.map((suffix) => path.resolve(`${module}${suffix}`))
  const file = candidates.find((one) => existsSync(one))
  if (file === undefined) {
    throw new HandlerError(`handler "${name}": there is no ${module}.mjs or .js in ${process.cwd()}`)
  }
  const exported = await import(pathToFileURL(file).href)
  const found = reach(exported, names) ?? reach(exported.default, names) // of CommonJS
  if (found === undefined) {
    throw new HandlerError(`handler "${name}": ${path.basename(file)} exports no ${names}`)
  }
  if (typeof found !== 'function') {
    throw new HandlerError(`handler "${name}" is no function but of type ${typeof found}`)
  }
  return found
}

function reach(object, names) {
  return names.split('.').reduce((found, name) => found?.[name], object)
}

/**
 * Run the handler on a call's body; its answer as {contentType, body}.
 *
 * JSON becomes the one argument, a body of another content type a Buffer. A promise is awaited.
 * @throws what the handler throws; `ValueError` for a body or an answer that isn't what it must be.
 */
export async function invoke(handler, contentType, body) {
  if (mediaType(contentType) !== JSON_TYPE) return encoded(await handler(body))
  let value = {}
  if (body.length > 0) {
    try {
      value = JSON.parse(body)
    } catch (error) {
      throw new ValueError(`the body isn't valid JSON: ${error.message}`)
    }
  }
  return encoded(await handler(value))
}

function encoded(answer) {
  if (typeof answer === 'string') return {contentType: TEXT_TYPE, body: Buffer.from(answer)}
  if (ArrayBuffer.isView(answer)) {
    const {buffer, byteOffset, byteLength} = answer
    return {contentType: BYTES_TYPE, body: Buffer.from(buffer, byteOffset, byteLength)}
  }
  if (answer instanceof ArrayBuffer) return {contentType: BYTES_TYPE, body: Buffer.from(answer)}
  let text
  try {
    // What returns nothing answers null, as in other languages.
    text = JSON.stringify(answer ?? null, finite)
  } catch (error) {
    throw new ValueError(`the answer can't be sent (${error.message}): ${RETURN}`)
  }
  if (text === undefined) throw new ValueError(`the answer is a ${typeof answer}: ${RETURN}`)
  return {contentType: JSON_TYPE, body: Buffer.from(text)}
}

const RETURN = 'return JSON values, a string or a Buffer'

/** `JSON.stringify` would make null of what isn't a number, without a word. */
function finite(_, value) {
  if (typeof value === 'number' && !Number.isFinite(value)) throw new TypeError(`${value} is no JSON`)
  return value
}
