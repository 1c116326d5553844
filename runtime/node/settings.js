/**
 * What a replica is told by its environment, and what it finds out about itself.
 *
 * The variables are those of the Python runtime (runtime/python/funker_runtime/settings.py);
 * docs/runtimes.md lists them.
 */

import {randomBytes} from 'node:crypto'
import {existsSync, readFileSync} from 'node:fs'
import os from 'node:os'

import {ownName} from './dns.js'
import {SettingError, clientKeys, routerAddress} from './keys.js'
import {MAX_BODY, REPLICA_PORT} from './messages.js'

export {SettingError}

/** `handle` in handler.mjs, handler.js or handler.cjs. */
const DEFAULT_HANDLER = 'handler:handle'
const UNITS = {'': 1000, ms: 1, s: 1000, m: 60_000, h: 3_600_000}
const ULIMITS = ['as', 'cpu', 'fsize', 'nofile', 'nproc']
/** Bytes of output of one call that are logged. */
const LOG_LIMIT = 1024 * 1024
const MAX_SLOTS = 1024

/**
 * The settings in an environment.
 * @throws {SettingError} for what can't be understood.
 */
export function settings(environ) {
  return {
    ...unfailing(environ),
    once: isOnce(environ),
    slots: isOnce(environ) ? 1 : slots(environ),
    plain: oneOf(environ, 'FUNKER_LOG', ['json', 'plain']) === 'plain',
    ulimits: ulimits(environ.FUNKER_ULIMITS || ''),
    timeout: milliseconds('FUNKER_TIMEOUT', environ.FUNKER_TIMEOUT || '60s'),
    maxBody: number('FUNKER_MAX_BODY', environ.FUNKER_MAX_BODY || String(MAX_BODY)),
    logLimit: number('FUNKER_LOG_LIMIT', environ.FUNKER_LOG_LIMIT || String(LOG_LIMIT)),
    router: routerAddress(environ),
    keys: clientKeys(environ),
  }
}

/** Those that can't be wrong: also a replica with bad settings has to say so. */
export function unfailing(environ) {
  const host = existsSync('/.dockerenv') ? '*' : '127.0.0.1'
  return {
    handler: environ.FUNKER_HANDLER || DEFAULT_HANDLER,
    listen: environ.FUNKER_LISTEN || `tcp://${host}:${REPLICA_PORT}`,
    plain: environ.FUNKER_LOG === 'plain',
    once: true,
    slots: 1,
    ulimits: {},
    timeout: 60_000,
    maxBody: MAX_BODY,
    logLimit: LOG_LIMIT,
    router: '',
    keys: null,
  }
}

/**
 * Who this replica is. Asks the network's DNS where FUNKER_FUNCTION isn't set: a service in a stack
 * file isn't told its own name, and a caller must not be answered by a function that has inherited
 * an address.
 */
export async function identity(environ) {
  let {FUNKER_FUNCTION: name = '', FUNKER_REPLICA: replica = ''} = environ
  if (!name) {
    const known = await ownName()
    // Swarm names a task's address service.slot.task.network, a container's name.network.
    const labels = known.split('.')
    name = labels[0]
    if (!replica && labels.length > 3) replica = labels.slice(0, 3).join('.')
  }
  name ||= 'function'
  const aliases = (environ.FUNKER_ALIASES ?? '').split(',').map((alias) => alias.trim())
  return {
    function: name,
    names: [...new Set([name, ...shortNames(name), ...aliases.filter(Boolean)])],
    replica: replica || os.hostname(),
    session: randomBytes(16).toString('hex'),
    node: environ.FUNKER_NODE ?? '',
    version: environ.FUNKER_VERSION ?? '',
  }
}

/** In stack `shop`, service `add` is named `shop_add` and has the network alias `add`. */
function shortNames(name) {
  const parts = name.split('_')
  return parts.map((_, at) => parts.slice(at).join('_')).filter((short) => short && short !== name)
}

function isOnce(environ) {
  return oneOf(environ, 'FUNKER_ISOLATION', ['container', 'process']) === 'container'
}

function slots({FUNKER_SLOTS: told}) {
  if (told && !(/^[0-9]{1,4}$/.test(told) && told >= 1 && told <= MAX_SLOTS)) {
    const takes = `expected a number from 1 to ${MAX_SLOTS}`
    throw new SettingError(`FUNKER_SLOTS: ${takes}, got ${JSON.stringify(told)}`)
  }
  return told ? Number(told) : cores()
}

/** The processors that this process may use, by its affinity and its control group's quota. */
function cores() {
  const all = os.availableParallelism?.() ?? os.cpus().length
  try {
    const [quota, period] = readFileSync('/sys/fs/cgroup/cpu.max', 'utf8').split(' ').map(Number)
    return Math.max(1, Math.min(all, Math.ceil(quota / period) || all)) // "max" is no number
  } catch (error) {
    if (error.code === undefined) throw error
    return all
  }
}

function oneOf(environ, name, values) {
  const told = environ[name] || values[0]
  if (!values.includes(told)) {
    throw new SettingError(`${name}: expected ${values.join(' or ')}, got ${JSON.stringify(told)}`)
  }
  return told
}

function milliseconds(name, text) {
  const [, amount, unit] = /^\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*(ms|s|m|h|)\s*$/.exec(text) ?? []
  const value = Number(amount) * UNITS[unit]
  if (!(value > 0 && value < Infinity)) {
    const takes = 'expected a time such as 500ms, 30s or 5m'
    throw new SettingError(`${name}: ${takes}, got ${JSON.stringify(text)}`)
  }
  return value
}

function number(name, text) {
  // Not more digits than a number holds.
  if (!/^\s*[0-9]{1,15}\s*$/.test(text) || Number(text) === 0) {
    const takes = 'expected a positive number such as 16777216'
    throw new SettingError(`${name}: ${takes}, got ${JSON.stringify(text)}`)
  }
  return Number(text)
}

function ulimits(text) {
  const limits = {}
  for (const pair of text.split(',').filter(Boolean)) {
    const [, name, value] = /^\s*([a-z]+)\s*=\s*([0-9]{1,15})\s*$/.exec(pair) ?? []
    if (!ULIMITS.includes(name)) {
      const takes = `expected ${ULIMITS.map((one) => `${one}=NUMBER`).join(',')} or some of them`
      throw new SettingError(`FUNKER_ULIMITS: ${takes}, got ${JSON.stringify(text)}`)
    }
    limits[name] = Number(value)
  }
  return limits
}
