// A listener: accepts, counts, and gives every client a session of its own.
// Promise: the cap on all connections comes first, then what looks at the client's address; whoever is turned away hears why (421, RFC 5321
// 3.8); a counter that went up comes down. Stopping follows section 5, step 11 of the design.
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import { canonicalAddress, clientKey } from '../net/ip.ts'
import { closing, type Reply, replyText } from '../smtp/reply.ts'
import type { ListenerOptions, ProxyDeps } from './deps.ts'
import { readProxyHeader } from './proxy-intro.ts'
import { type ClientAddress, Session } from './session.ts'
import { factsOf, type SecureFacts, type TlsTerminator } from './tls.ts'

const TOO_MANY = closing(421, [3, 2], 'Too many connections, try again later')
const TOO_MANY_FROM_YOU = closing(421, [7, 0], 'Too many connections from your address')
const NOT_FROM_YOU = closing(421, [7, 0], 'Not accepted from your address')
const LINGER = 2000
const HANDSHAKE = 30_000

/** Counts connections over all listeners. */
export class ConnectionCounter {
  #all = 0
  readonly #byClient = new Map<string, number>()

  get all(): number {
    return this.#all
  }

  of(key: string): number {
    return this.#byClient.get(key) ?? 0
  }

  enter(): void {
    this.#all++
  }

  leave(): void {
    this.#all--
  }

  enterClient(key: string): void {
    this.#byClient.set(key, this.of(key) + 1)
  }

  leaveClient(key: string): void {
    const left = this.of(key) - 1
    if (left > 0) this.#byClient.set(key, left)
    else this.#byClient.delete(key)
  }
}

interface Caller {
  readonly client: ClientAddress
  readonly healthCheck: boolean
}

export interface ServerOptions {
  readonly listener: ListenerOptions
  readonly address: { readonly host: string; readonly port: number }
  readonly deps: ProxyDeps
  readonly counter: ConnectionCounter
}

export class SmtpServer {
  #options: ServerOptions
  readonly #server: Server
  readonly #sessions = new Set<Session>()
  #open = 0
  #stopping = false
  #idle: (() => void) | undefined

  constructor(options: ServerOptions) {
    this.#options = options
    // Half-open: a client that has closed its side still gets the answers to what it said.
    this.#server = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true }, (socket) =>
      this.#accept(socket),
    )
  }

  /** What the sessions to come are given; running ones keep what they have. */
  use(listener: ListenerOptions, deps: ProxyDeps): void {
    this.#options = { ...this.#options, listener, deps }
  }

  get openSessions(): number {
    return this.#sessions.size
  }

  /** Starts listening; resolves to the address in use. Rejects with the system's error (EADDRINUSE, EACCES). */
  listen(): Promise<AddressInfo> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen({ ...this.#options.address, backlog: 1024 }, () => {
        this.#server.off('error', reject)
        this.#server.on('error', (error) => this.#options.deps.log.error({ error: error.message }, 'listener failed'))
        resolve(this.#server.address() as AddressInfo)
      })
    })
  }

  /** Stops accepting, ends idle sessions, and waits for messages under way: those coming in for the grace time, those after it as long as the backend takes. */
  async stop(): Promise<void> {
    this.#stopping = true
    this.#server.close()
    for (const session of this.#sessions) session.stop()
    if (this.#open === 0) return
    const { clock, limits } = this.#options.deps
    const grace = clock.timer(limits.stopGrace, () => {
      for (const session of this.#sessions) session.cutOff()
    })
    await new Promise<void>((resolve) => {
      this.#idle = resolve
    })
    grace.clear()
  }

  // The cap on all connections comes first; the caller's address is looked at only when it is known for sure.
  #accept(socket: Socket): void {
    const { deps, counter } = this.#options
    const address = canonicalAddress(socket.remoteAddress ?? '')
    // Gone before it was accepted: there is nobody to talk to.
    if (address === undefined) {
      socket.destroy()
      return
    }
    if (counter.all >= deps.limits.connections) {
      this.#turnAway(socket, { client: address, reason: 'connections', reply: TOO_MANY })
      return
    }
    counter.enter()
    this.#open++
    this.#serve(socket, { address, port: socket.remotePort ?? 0 })
      .catch((error: unknown) => {
        deps.log.error({ client: address, error: String(error) }, 'connection failed')
        socket.destroy()
      })
      .finally(() => {
        counter.leave()
        if (--this.#open === 0) this.#idle?.()
      })
  }

  async #serve(socket: Socket, peer: ClientAddress): Promise<void> {
    const { counter, deps, listener } = this.#options
    const caller = await this.#callerOf(socket, peer)
    if (caller === undefined) return
    const key = clientKey(caller.client.address)
    // A load balancer's own look is nobody's connection, and a server that hands on everybody's mail has one address for all of it.
    const exempt = caller.healthCheck || listener.xclientFrom.has(caller.client.address)
    if (!exempt && counter.of(key) >= deps.limits.connectionsPerAddress) {
      const client = caller.client.address
      this.#turnAway(socket, { client, reason: 'connections_per_address', reply: TOO_MANY_FROM_YOU })
      return
    }
    counter.enterClient(key)
    try {
      // Whom the PROXY header names is who talks to us: the trust in a balancer's address is not its clients'.
      await this.#converse(socket, { ...caller, peer: caller.client })
    } finally {
      counter.leaveClient(key)
    }
  }

  /** Who the connection is for, or undefined where it has been ended. */
  async #callerOf(socket: Socket, peer: ClientAddress): Promise<Caller | undefined> {
    const { listener, deps } = this.#options
    if (listener.proxyFrom.size === 0) return { client: peer, healthCheck: false }
    if (!listener.proxyFrom.has(peer.address)) {
      this.#turnAway(socket, { client: peer.address, reason: 'proxy_protocol_from', reply: NOT_FROM_YOU })
      return undefined
    }
    const header = await readProxyHeader(socket, deps.clock)
    if (header.kind === 'proxied') return { client: header.source, healthCheck: false }
    if (header.kind === 'local') return { client: peer, healthCheck: true }
    const reason = header.kind === 'malformed' ? header.why : 'incomplete PROXY header'
    deps.log.info({ listener: listener.name, client: peer.address, reason }, 'PROXY header refused')
    deps.events.emit('session-refused', { listener: listener.name, client: peer.address, reason: 'proxy_header' })
    socket.destroy()
    return undefined
  }

  async #converse(socket: Socket, caller: Caller & { readonly peer: ClientAddress }): Promise<void> {
    const { deps, listener } = this.#options
    let stream: Duplex = socket
    let secure: SecureFacts | undefined
    if (listener.tls?.mode === 'implicit') {
      const tls = await this.#handshake(socket, listener.tls.terminator)
      if (tls === undefined) return
      stream = tls
      secure = factsOf(tls)
    }
    // Asked of the system only where a backend is told.
    const local = () => ({
      address: canonicalAddress(socket.localAddress ?? '') ?? '127.0.0.1',
      port: socket.localPort ?? 0,
    })
    const session = new Session({ stream, listener, ...caller, local, deps, secure })
    this.#sessions.add(session)
    if (this.#stopping) session.stop()
    await session.run()
    this.#sessions.delete(session)
  }

  async #handshake(socket: Socket, terminator: TlsTerminator): Promise<TLSSocket | undefined> {
    const { deps, listener } = this.#options
    try {
      const tls = await terminator.accept(socket, { clock: deps.clock, timeout: HANDSHAKE })
      deps.events.emit('tls-handshake', { listener: listener.name, result: 'ok', protocol: factsOf(tls).protocol })
      return tls
    } catch (error) {
      deps.events.emit('tls-handshake', { listener: listener.name, result: 'failed', protocol: 'none' })
      deps.log.info(
        { listener: listener.name, client: socket.remoteAddress, error: String(error) },
        'TLS handshake failed',
      )
      return undefined
    }
  }

  #turnAway(socket: Socket, { client, reason, reply }: { client: string; reason: string; reply: Reply }): void {
    const { deps, listener } = this.#options
    deps.events.emit('session-refused', { listener: listener.name, client, reason })
    socket.on('error', () => socket.destroy())
    const timer = deps.clock.timer(LINGER, () => socket.destroy())
    socket.once('close', () => timer.clear())
    socket.resume()
    socket.end(replyText(reply), 'latin1')
  }
}
