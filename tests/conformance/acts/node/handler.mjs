/** What acts/python/handler.py does, in JavaScript. A body that isn't JSON is answered as it is. */

import {execFileSync, spawn} from 'node:child_process'
import {createSocket} from 'node:dgram'
import {existsSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {setTimeout as sleep} from 'node:timers/promises'

class LookupError extends Error {}

let seen = 0

/** To the test. (Not by a file: there may be none that a call can write.) */
function tell(text) {
  const socket = createSocket('udp4')
  return new Promise((resolve) => {
    socket.send(text, Number(process.env.TELL), '127.0.0.1', () => socket.close(resolve))
  })
}

export async function handle(given) {
  if (given === null || typeof given !== 'object' || Array.isArray(given) || Buffer.isBuffer(given)) {
    return given
  }
  const {do: act = 'echo', ...rest} = given
  await tell(`ran ${act}`)
  switch (act) {
    case 'text':
      return rest.text
    case 'bytes':
      return Buffer.alloc(rest.count, 'x')
    case 'null':
      return null
    case 'count':
      return (seen += 1)
    case 'pid':
      return process.pid
    case 'raise':
      throw new LookupError('nothing is there')
    case 'exit':
      console.error('about to leave')
      return process.exit(rest.status)
    case 'abort':
      console.log('on stdout')
      console.error('on stderr')
      return process.abort()
    case 'loop':
      process.on('SIGTERM', () => {})
      for (;;);
    case 'sleep':
      return sleep(rest.seconds * 1000)
    case 'wait': // until the test says so
      while (!existsSync(rest.file)) await sleep(10)
      await tell('waited')
      return 'waited'
    case 'child': {
      const child = spawn('sleep', ['60'], {stdio: 'inherit'})
      if (rest.hang) {
        await tell(`child ${child.pid}`)
        await sleep(60_000)
      }
      return child.pid
    }
    case 'daemon': {
      // leaves its group and its parent
      const command = 'sleep 60 > /dev/null 2>&1 & echo $!'
      return Number(execFileSync('setsid', ['sh', '-c', command]))
    }
    case 'descriptors':
      return Number(execFileSync('sh', ['-c', 'ulimit -n']))
    case 'scratch':
      writeFileSync('made', 'here')
      return `${tmpdir()}\n${process.cwd()}`
    case 'print':
      console.log(rest.text)
      return 'printed'
  }
  return rest
}
