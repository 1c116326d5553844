/** What is told of an error: its name, its text, and the handler's part of the stack. */

import path from 'node:path'
import {fileURLToPath} from 'node:url'

import {HandlerError, ValueError} from './loader.js'
import {SettingError} from './keys.js'
import {clip} from './messages.js'

/** Characters of an error's own text, which may be a whole document. */
const MAX_TEXT = 2000
const MAX_TRACEBACK = 24 * 1024

const RUNTIME = path.dirname(fileURLToPath(import.meta.url))

/** {message, exceptionType, traceback}. No stack of the runtime's own errors: their words do. */
export function described(error) {
  const type = typeName(error)
  const text = textOf(error)
  if ([HandlerError, SettingError, ValueError].some((own) => error instanceof own)) {
    return {message: text, exceptionType: type, traceback: ''}
  }
  return {
    message: beginning(text ? `${type}: ${text}` : type),
    exceptionType: type,
    traceback: clip(traceback(error), MAX_TRACEBACK),
  }
}

function typeName(error) {
  if (!(error instanceof Error)) return typeof error // anything can be thrown
  // A class of one's own has the name of `Error` unless it says otherwise.
  const name = error.name === 'Error' ? error.constructor?.name : error.name
  return String(name || 'Error').slice(0, 256)
}

function textOf(error) {
  try {
    return String(error instanceof Error ? error.message : error)
  } catch {
    return '(its text threw an error in turn)'
  }
}

function traceback(error, depth = 0) {
  if (!(error instanceof Error)) return `${typeName(error)}: ${beginning(textOf(error))}\n`
  const stack = typeof error.stack === 'string' ? error.stack : ''
  const lines = stack.split('\n')
  // The place of a syntax error stands before everything else.
  const place = lines[0].startsWith('file:') ? lines.slice(0, 3) : []
  const frames = lines.filter((line) => /^ {4}at /.test(line) && !isOurs(line))
  const parts = [...place, beginning(`${typeName(error)}: ${textOf(error)}`), ...frames]
  let text = `${parts.join('\n')}\n`
  if (error.cause !== undefined && depth < 5) {
    text += `Caused by ${traceback(error.cause, depth + 1)}`
  }
  return text
}

/** Whether a frame is the runtime's or Node's own. */
function isOurs(line) {
  return /[( ]node:/.test(line) || line.includes(`${RUNTIME}/`)
}

function beginning(text) {
  return text.length <= MAX_TEXT ? text : `${text.slice(0, MAX_TEXT)}…`
}
