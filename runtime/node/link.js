/** The replica's connection to the router: dialled from here, so a replica needs no open port. */

import {Context, Dealer} from 'zeromq'

import {ProtocolError, decode, encode} from './messages.js'
import {ROUTER} from './replica.js'

/** Bytes above the body's limit for one message: its header, and room to refuse politely. */
const SPARE = 1024 * 1024
/** Between tries to connect, at least and at most. The name is looked up at each. */
const RECONNECT_MS = 10
const RECONNECT_MAX_MS = 500
/** The same if many in a row broke off in the handshake, which ZeroMQ takes for connections. */
const UNWELCOME_MS = 1000
/** How many that are. */
const UNWELCOME = 20
/** For a TCP connection: a dead container's address gives no answer at all. */
const CONNECT_MS = 1000

/** Why a router and its client part in the handshake, for ever as far as ZeroMQ is concerned. */
const REFUSALS = {
  'handshake:error:auth': "it doesn't know the key",
  'handshake:error:protocol': 'one side has keys and the other has none',
}

/** Options of every socket: what it receives is bounded, and a peer silently gone is noticed. */
export function guarded(maxBody) {
  return {
    maxMessageSize: maxBody + SPARE,
    // Shorter ones cut connections while large bodies cross them.
    heartbeatInterval: 5000,
    heartbeatTimeout: 30_000,
    sendHighWaterMark: 0, // dropping an outcome is never right
    sendTimeout: 0, // a send succeeds at once or fails
  }
}

/** Send a message; `gone` is called if there is no connection to send it over. */
export function post(socket, frames, gone) {
  socket.send(frames).catch((error) => {
    // EBADF: the socket has been closed meanwhile.
    if (!['EAGAIN', 'EHOSTUNREACH', 'EBADF'].includes(error.code)) throw error
    gone()
  })
}

export class RouterLink {
  // Its own: a look-up of the router's name that stalls must not hold up direct calls.
  #context = new Context()
  #dealer
  #options
  #happened
  #hasComplained = false
  #hangUps = 0

  /** `happened` is told the replica's events. `router` is "host:port" or a ZeroMQ endpoint. */
  constructor({router, session, keys, maxBody}, happened) {
    this.#options = {router, session, keys, maxBody}
    this.#happened = happened
    this.#dial()
  }

  send(message) {
    const dealer = this.#dealer
    post(dealer, encode(message), () => {
      if (dealer === this.#dealer) this.#happened({type: 'gone', peer: ROUTER})
    })
  }

  /** Drop the connection and make another, to wherever the name leads by now. */
  redial() {
    this.#dealer.linger = 0
    this.#dealer.close()
    this.#dial()
    this.#happened({type: 'gone', peer: ROUTER})
  }

  /** What was sent has `linger` milliseconds to leave. */
  close(linger) {
    this.#dealer.linger = linger
    this.#dealer.close()
  }

  #dial() {
    const {router, session, keys, maxBody} = this.#options
    const isUnwelcome = this.#hangUps >= UNWELCOME
    const dealer = new Dealer({
      context: this.#context,
      ...guarded(maxBody),
      routingId: `R${session}`, // the same over reconnects: the router knows it again
      immediate: true, // a send fails while there is no connection
      reconnectInterval: isUnwelcome ? UNWELCOME_MS : RECONNECT_MS,
      reconnectMaxInterval: isUnwelcome ? UNWELCOME_MS : RECONNECT_MAX_MS,
      connectTimeout: CONNECT_MS,
      ...(keys && {
        curveServerKey: keys.router,
        curvePublicKey: keys.public,
        curveSecretKey: keys.secret,
      }),
    })
    this.#dealer = dealer
    this.#watch(dealer)
    dealer.connect(router.includes('://') ? router : `tcp://${router}`)
    this.#read(dealer)
  }

  #watch(dealer) {
    dealer.events.on('handshake', () => {
      this.#hangUps = 0
      if (dealer === this.#dealer) this.#happened({type: 'linked'})
    })
    dealer.events.on('handshake:error:other', () => {
      this.#hangUps += 1
      if (this.#hangUps !== UNWELCOME || dealer !== this.#dealer) return
      this.#complain('it breaks off in the handshake, as one does that has another key')
      this.redial()
    })
    for (const [type, why] of Object.entries(REFUSALS)) {
      dealer.events.on(type, () => this.#complain(why))
    }
  }

  async #read(dealer) {
    for await (const frames of dealer) {
      if (dealer !== this.#dealer) return
      try {
        this.#happened({type: 'received', peer: ROUTER, message: decode(frames)})
      } catch (error) {
        // One of another age; it would not be answered.
        if (!(error instanceof ProtocolError)) throw error
      }
    }
  }

  /** Say once why the router won't have this replica: nobody else here can see it. */
  #complain(why) {
    if (this.#hasComplained) return
    this.#hasComplained = true
    const about = `the router ${this.#options.router} won't have this replica: ${why}`
    this.#happened({type: 'refused', text: `funker: ${about}. Direct calls are served.`})
  }
}
