/** What Docker's DNS calls this container: a service in a stack file isn't told its own name. */

import {readFileSync} from 'node:fs'
import {Resolver, lookup} from 'node:dns/promises'
import os from 'node:os'

/** Docker's own DNS server, inside every container of a user-defined network. */
const SERVER = '127.0.0.11'

/** The name of this container's address; empty where Docker's DNS isn't in use or has none. */
export async function ownName() {
  try {
    if (!readFileSync('/etc/resolv.conf', 'utf8').includes(SERVER)) return ''
    const {address} = await lookup(os.hostname(), {family: 4})
    const resolver = new Resolver({timeout: 1000, tries: 2})
    resolver.setServers([SERVER])
    const [name = ''] = await resolver.reverse(address)
    return name
  } catch (error) {
    if (error.code === undefined) throw error
    return '' // no such file, no such name, no answer
  }
}
