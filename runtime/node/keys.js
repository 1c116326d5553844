/**
 * Whom a replica joins, and with which CURVE keys: the rules of funker/rpc/keys.py.
 *
 * A key file has `NAME=value` lines, keys in Z85. The first of these that there is counts:
 * FUNKER_KEY_FILE, if it is set; the swarm's secret; `client-key` in the local controller's
 * directory.
 */

import {readFileSync, statSync} from 'node:fs'

/** The router's alias on the network `funker`, and its port. */
const ROUTER_NAME = 'funker-router'
const ROUTER_PORT = 5571
const SECRET = '/run/secrets/funker-client-key'
const FIELDS = ['ROUTER_PUBLIC', 'CLIENT_PUBLIC', 'CLIENT_SECRET']
const Z85 = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#'

/** A variable or file that can't be understood. The message names it and says what it takes. */
export class SettingError extends Error {
  name = 'SettingError'
}

/** "host:port", or a ZeroMQ endpoint; empty where calls are to be direct. */
export function routerAddress(environ) {
  const told = environ.FUNKER_ROUTER ?? ''
  if (told === 'direct') return ''
  if (told) return address(told, 'FUNKER_ROUTER')
  const path = keyFile(environ)
  // Who was given no key would not be answered there.
  if (path === '') return ''
  const {ROUTER_ADDRESS: given = ROUTER_NAME} = read(path)
  return address(given, `${path}: ROUTER_ADDRESS`)
}

/** The keys of a replica: {router, public, secret}; null: it has no file. */
export function clientKeys(environ) {
  const path = keyFile(environ)
  if (path === '') return null
  const fields = read(path)
  return {router: fields.ROUTER_PUBLIC, public: fields.CLIENT_PUBLIC, secret: fields.CLIENT_SECRET}
}

function keyFile(environ) {
  if (environ.FUNKER_KEY_FILE) return isThere(environ.FUNKER_KEY_FILE)
  const state = environ.FUNKER_STATE_DIR || userState(environ)
  return isThere(SECRET) || (state && isThere(`${state}/client-key`))
}

function userState({XDG_STATE_HOME: told = '', HOME: home}) {
  if (told.startsWith('/')) return `${told}/funker` // others are to be ignored
  return home ? `${home}/.local/state/funker` : ''
}

function isThere(path) {
  // In a directory that isn't ours: as good as none.
  return statSync(path, {throwIfNoEntry: false}) === undefined ? '' : path
}

function read(path) {
  const hint = '`funker up` makes the key files; FUNKER_KEY_FILE names another one'
  let text
  try {
    text = readFileSync(path, 'latin1')
  } catch (error) {
    throw new SettingError(`${path} can't be read: ${error.message}: ${hint}`)
  }
  const lines = text.split(/\r?\n/).map((line) => line.trim())
  const pairs = lines.filter((line) => line.includes('=')).map((line) => line.split(/=(.*)/s, 2))
  const fields = Object.fromEntries(pairs)
  const wrong = FIELDS.filter((name) => !isKey(fields[name] ?? ''))
  if (wrong.length > 0) {
    const lacks = `it lacks ${wrong.join(' and ')} of 40 characters Z85`
    throw new SettingError(`${path} is no key file: ${lacks}: ${hint}`)
  }
  return fields
}

/** Whether ZeroMQ takes it: groups of five digits to the base 85, each of 32 bits. */
function isKey(text) {
  if (text.length !== 40 || [...text].some((digit) => !Z85.includes(digit))) return false
  const groups = text.match(/.{5}/g)
  return groups.every(
    (group) => [...group].reduce((sum, digit) => sum * 85 + Z85.indexOf(digit), 0) < 2 ** 32,
  )
}

function address(told, where) {
  if (told.includes('://')) return told
  const colon = told.lastIndexOf(':')
  if (colon < 0) return `${told}:${ROUTER_PORT}`
  const port = told.slice(colon + 1)
  if (colon === 0 || !/^[0-9]{1,5}$/.test(port) || !(port > 0 && port < 65536)) {
    const takes = 'expected HOST:PORT or an endpoint such as ipc:///run/funker/router'
    throw new SettingError(`${where}: ${takes}, got ${JSON.stringify(told.slice(0, 60))}`)
  }
  return told
}
