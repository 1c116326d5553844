/**
 * What a call leaves behind where its container goes on (`isolation: process`), and what of it the
 * front can remove: Node.js has none of the system calls that would keep a process in.
 */

import {readFileSync, readdirSync} from 'node:fs'

/** What READY says of it. */
export const RESIDUE =
  'partial: Node.js has no Landlock or subreaper; files outside of the scratch directory stay, and ' +
  'so do processes that leave their group and clear their environment'

/** Kill the processes that have a variable, written `NAME=value`, in their environment. */
export function endBearers(variable) {
  for (const entry of readdirSync('/proc')) {
    if (!/^[0-9]+$/.test(entry) || Number(entry) === process.pid) continue
    try {
      const environ = readFileSync(`/proc/${entry}/environ`, 'latin1')
      if (environ.split('\0').includes(variable)) process.kill(Number(entry), 'SIGKILL')
    } catch (error) {
      // It has just ended, or is none of ours.
      if (!['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes(error.code)) throw error
    }
  }
}
