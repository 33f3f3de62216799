// One client's session: who it is, what it has said about itself, its greeting and its end. The loop between is in conversation.ts.
// Promise: whatever happens, the transaction, the filters and the counters are released (P11).
// Not taken: one class with a method for each verb, as every mail server read for the design has it (1,300 to 7,100 lines).
import type { Duplex } from 'node:stream'
import { type FilterChain, NOTHING, type StageResult } from '../filter/chain.ts'
import { FactBoard, type Logger, type SessionView, tagged } from '../filter/context.ts'
import type { Offer } from '../smtp/extensions.ts'
import { LineReader } from '../smtp/line-reader.ts'
import { closing, type Reply, replyText } from '../smtp/reply.ts'
import { Conduct } from './conduct.ts'
import { Conversation } from './conversation.ts'
import type { ListenerOptions, ProxyDeps } from './deps.ts'
import type { PinnedBackend } from './destination.ts'
import type { ClientIdentity } from './identity.ts'
import { LOCAL_PROBLEM, STOPPING, verdictReply } from './replies.ts'
import type { SecureFacts } from './tls.ts'
import type { Transaction } from './transaction.ts'
import { Wire } from './wire.ts'

export interface SessionOptions {
  readonly stream: Duplex
  readonly listener: ListenerOptions
  /** Who the connection is for: the peer, or whom the PROXY header named. */
  readonly client: ClientAddress
  readonly peer: ClientAddress
  /** Where it has connected to. */
  readonly local: () => ClientAddress
  /** A load balancer looks whether we are there: greeting, no filters, no mail. */
  readonly healthCheck?: boolean
  readonly deps: ProxyDeps
  /** The stream is under TLS from the start. */
  readonly secure?: SecureFacts | undefined
}

export interface ClientAddress {
  readonly address: string
  readonly port: number
}

const LINGER = 5000
export class Session implements SessionView {
  readonly id: string
  readonly deps: ProxyDeps
  readonly listener: ListenerOptions
  /** The client, as far as is known: whoever trusted clients say it is. */
  client: ClientAddress
  /** Who the connection comes from. */
  readonly peer: ClientAddress
  readonly chain: FilterChain
  readonly connectFacts = new FactBoard()
  /** What HELO brought, over what the connection brought: forgotten with a new HELO. */
  readonly facts = new FactBoard(this.connectFacts)
  wire: Wire
  lines: LineReader
  /** The connection is under TLS. */
  secure: SecureFacts | undefined
  helo: { readonly verb: 'HELO' | 'EHLO'; readonly name: string } | undefined
  /** What the peer said of itself, whatever it said of the client later (XFORWARD). */
  peerHelo: Session['helo']
  /** What the last EHLO announced. */
  offer: Offer | undefined
  tx: Transaction | undefined
  /** The backend connection on which the client has logged in. */
  login: PinnedBackend | undefined
  connectResult: Promise<StageResult> = Promise.resolve(NOTHING)
  heloResult: Promise<StageResult> = Promise.resolve(NOTHING)
  readonly conduct: Conduct
  readonly healthCheck: boolean
  readonly #local: () => ClientAddress
  #cancelConnect: (() => void) | undefined
  readonly log: Logger
  transactions = 0
  delivered = 0
  /** A message is coming in or on its way: a stop of the gateway waits for it. */
  busy = false
  /** The gateway stops: no new message is begun. */
  stopping = false
  #firstAsked: StageResult = NOTHING
  readonly #started: number

  constructor(options: SessionOptions) {
    this.deps = options.deps
    this.id = options.deps.newId()
    this.listener = options.listener
    this.client = options.client
    this.peer = options.peer
    this.#local = options.local
    this.healthCheck = options.healthCheck ?? false
    this.chain = options.deps.chain(options.listener.name)
    this.wire = new Wire(options.stream, options.deps.clock)
    this.lines = new LineReader(options.deps.limits.commandLine)
    this.secure = options.secure
    this.conduct = new Conduct(options.deps.limits)
    this.log = tagged(options.deps.log, { session: this.id })
    this.#started = options.deps.clock.now()
  }

  /** Runs the session to its end. Never rejects. */
  async run(): Promise<void> {
    const { events } = this.deps
    events.emit('session-started', { id: this.id, listener: this.listener.name, client: this.client.address })
    this.wire.onGone = () => this.tx?.backend?.abort()
    let end = 'failed'
    try {
      end = (await this.#open()) ?? (await new Conversation(this).run())
    } catch (error) {
      this.deps.log.error(
        { session: this.id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) },
        'session failed',
      )
      this.write(LOCAL_PROBLEM, 'SESSION')
    } finally {
      this.tx?.end({
        outcome: end === 'closed' ? 'client-gone' : 'reset',
        reply: undefined,
        reason: `session ended: ${end}`,
      })
      this.login?.close()
      const closed = this.wire.end(LINGER)
      this.#emitEnd(end)
      // The caps count a connection until it is really gone.
      await closed
    }
  }

  /** What the backend is told about the client. */
  get identity(): ClientIdentity {
    return { ...this.client, helo: this.helo, listener: this.#local }
  }

  /** Somebody trusted says who the client is: the connect stage starts anew, and a login was that of the client before. */
  identify(client: ClientAddress): void {
    this.client = client
    this.login?.close()
    this.login = undefined
    this.connectFacts.clear()
    this.facts.clear()
    this.#startConnect()
  }

  /** Starts the filters of HELO; what the last HELO brought is forgotten. */
  startHelo(): void {
    this.facts.clear()
    this.heloResult = this.healthCheck ? Promise.resolve(NOTHING) : this.chain.helo(this, this.facts, this.log)
  }

  /** The backend's 235: who the client is counts now, and no longer where it comes from. */
  loggedIn(backend: PinnedBackend): void {
    this.login = backend
    this.#cancelConnect?.()
    this.connectResult = Promise.resolve(NOTHING)
  }

  /** Goes on over another stream (TLS). All that was said over the old one is forgotten (RFC 3207 4.2), but for what it counts. */
  continueOn(stream: Duplex, secure: SecureFacts): void {
    const { clock, limits } = this.deps
    const { bytesIn, bytesOut } = this.wire
    this.secure = secure
    this.wire = new Wire(stream, clock)
    this.wire.bytesIn = bytesIn
    this.wire.bytesOut = bytesOut
    this.wire.onGone = () => this.tx?.backend?.abort()
    this.lines = new LineReader(limits.commandLine)
    this.helo = undefined
    this.offer = undefined
    this.facts.clear()
    this.heloResult = Promise.resolve(NOTHING)
  }

  /** The gateway stops: an idle session ends now, one with a message when that is through. */
  stop(): void {
    this.stopping = true
    if (!this.busy) this.wire.interrupt()
  }

  /** The grace is over: a message that is still coming in is given up. */
  cutOff(): void {
    this.stopping = true
    this.wire.interrupt()
  }

  /** Sends what was said so far: before every wait. */
  async flush(): Promise<void> {
    await this.wire.flush(this.deps.limits.idle)
  }

  async #open(): Promise<string | undefined> {
    const { deps, wire } = this
    wire.onInput = () => this.connectFacts.set('earlyTalker', true)
    const greeting = this.#startConnect()
    if (deps.destination.offer() === undefined) {
      try {
        await deps.destination.learn()
      } catch (error) {
        this.log.warn({ error: String(error) }, 'no backend: client turned away')
        return this.#turnAway(closing(421, [3, 2], 'Mail system not ready, try again later'), 'no-backend')
      }
    }
    if (this.chain.holdsGreeting) {
      await greeting
      // What the greeting waited for may have settled the matter; the other filters are not waited for.
      const early = await Promise.race([this.connectResult, Promise.resolve(undefined)])
      const decided = early?.decided
      if (decided?.verdict.kind === 'hangup') return this.#turnAway(verdictReply(decided, this.id), 'hangup')
    }
    if (this.stopping) return this.#turnAway(STOPPING, 'stopped')
    wire.onInput = undefined
    // RFC 5321 4.2: the name first, no software version.
    this.write({ code: 220, lines: [`${deps.hostname} ESMTP`] }, 'CONNECT')
    return undefined
  }

  // Returns what the greeting waits for.
  #startConnect(): Promise<unknown> {
    this.#cancelConnect?.()
    if (this.healthCheck) return Promise.resolve()
    const { result, greeting, cancel } = this.chain.connect(this, this.connectFacts, this.log)
    this.#cancelConnect = cancel
    this.connectResult = result
    result.then((r) => {
      this.#firstAsked = r
    })
    return greeting
  }

  #turnAway(r: Reply, end: string): string {
    this.write(r, 'CONNECT')
    return end
  }

  /** A complete reply on the way out. */
  write(r: Reply, stage: string): void {
    this.wire.write(replyText(r))
    this.deps.events.emit('replied', { stage: stage === '' ? 'UNKNOWN' : stage, code: r.code })
  }

  #emitEnd(end: string): void {
    const { wire } = this
    this.deps.events.emit('session-ended', {
      id: this.id,
      listener: this.listener.name,
      client: this.client.address,
      helo: this.helo?.name ?? '',
      end,
      commands: this.conduct.commands,
      errors: this.conduct.errors,
      transactions: this.transactions,
      delivered: this.delivered,
      bytesIn: wire.bytesIn,
      bytesOut: wire.bytesOut,
      milliseconds: this.deps.clock.now() - this.#started,
      asked: this.#firstAsked.asked,
    })
  }
}
