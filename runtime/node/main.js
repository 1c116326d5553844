/** The Node.js replica: `node main.js` in the directory of the handler is what an image runs. */

import {Front} from './front.js'
import {SettingError, identity, settings, unfailing} from './settings.js'

let told
let broken = null
try {
  told = settings(process.env)
} catch (error) {
  if (!(error instanceof SettingError)) throw error
  // Told to callers like a handler that can't be loaded, instead of dying in a loop.
  told = unfailing(process.env)
  broken = {message: error.message, traceback: ''}
}
await new Front(told, await identity(process.env), broken).run()
