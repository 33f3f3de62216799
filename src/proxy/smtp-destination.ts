// Mail for an SMTP backend: one transaction on one connection, replaced where that loses nothing.
// Promise (P2): the dot is sent at most once and never repeated. Before DATA a connection that the backend gave up (its time-outs go on
// while we receive and scan) is replaced, once, and MAIL and RCPT are said again; a recipient answered differently then makes it 451 for
// the whole message. Once DATA was said nothing is repeated. What did not end cleanly is closed, never pooled.
import type { Clock } from '../net/clock.ts'
import type { EventBus } from '../observe/events.ts'
import { addressText } from '../smtp/address.ts'
import { DataEncoder } from '../smtp/data-encoder.ts'
import { carries, commonOffer, mailParametersText, type Offer, rcptParametersText } from '../smtp/extensions.ts'
import { isPositive, type Reply } from '../smtp/reply.ts'
import type { BackendConnection } from './backend.ts'
import type { BackendPool } from './backend-pool.ts'
import {
  BackendError,
  type Delivered,
  type Destination,
  type DestinationTransaction,
  type Envelope,
  type EnvelopeRecipient,
  type Parcel,
  type PinnedBackend,
} from './destination.ts'
import { type ClientAddressMode, type ClientIdentity, identify } from './identity.ts'
import { PinnedConnection } from './pinned-connection.ts'

export interface SmtpDestinationDeps {
  readonly pool: BackendPool
  readonly clock: Clock
  readonly events: EventBus
  /** Waiting for the answer to the dot, milliseconds. */
  readonly dotTimeout: number
  readonly clientAddress: ClientAddressMode
  /** Every server proves who it is, or is on this machine: it may be shown passwords. */
  readonly trusted: boolean
}

// security.md section 4: say so when the backend takes long to answer the dot.
const ALARM_AFTER = 60_000
const BATCH_OCTETS = 64 * 1024
const PARTS_MAX = 16

export class SmtpDestination implements Destination {
  readonly #deps: SmtpDestinationDeps
  #learning: Promise<void> | undefined

  constructor(deps: SmtpDestinationDeps) {
    this.#deps = deps
  }

  offer(): Offer | undefined {
    const profiles = this.#deps.pool.profiles()
    if (profiles.length === 0) return undefined
    const offer = commonOffer(profiles, Number.POSITIVE_INFINITY)
    // A password goes to a server that has proven who it is, or does not leave the machine.
    return this.#deps.trusted ? offer : { ...offer, auth: [] }
  }

  async learn(): Promise<void> {
    // Clients that come while the backend is away share one attempt.
    this.#learning ??= this.#deps.pool.learn().finally(() => {
      this.#learning = undefined
    })
    await this.#learning
  }

  available(): boolean {
    return this.#deps.pool.available
  }

  async pin(client: ClientIdentity): Promise<PinnedBackend> {
    if (!this.#deps.trusted) throw new BackendError('incapable', 'backend', 'is not trusted with passwords')
    const connection = await this.#deps.pool.acquire({ fresh: true, client })
    try {
      await identify(connection, this.#deps.clientAddress, client)
    } catch (error) {
      connection.close()
      throw error
    }
    return new PinnedConnection(connection)
  }

  open(envelope: Envelope, client: ClientIdentity, pinned?: PinnedBackend): DestinationTransaction {
    const own = pinned instanceof PinnedConnection ? pinned : undefined
    return new SmtpTransaction(this.#deps, { envelope, client, pinned: own })
  }

  async close(): Promise<void> {
    this.#deps.pool.close()
  }
}

interface TransactionOptions {
  readonly envelope: Envelope
  readonly client: ClientIdentity
  readonly pinned: PinnedConnection | undefined
}

class SmtpTransaction implements DestinationTransaction {
  readonly #deps: SmtpDestinationDeps
  readonly #envelope: Envelope
  readonly #client: ClientIdentity
  readonly #pinned: PinnedConnection | undefined
  readonly #accepted: EnvelopeRecipient[] = []
  #connection: BackendConnection | undefined
  #replacing: Promise<BackendConnection> | undefined
  #mailed = false
  #replaced = false
  #over = false

  constructor(deps: SmtpDestinationDeps, { envelope, client, pinned }: TransactionOptions) {
    this.#deps = deps
    this.#envelope = envelope
    this.#client = client
    this.#pinned = pinned
  }

  async mail(): Promise<Reply> {
    try {
      return await this.#begin(await this.#acquire(false))
    } catch (error) {
      // The connection was given up by the server before it saw anything of this message.
      if (!(error instanceof BackendError) || error.fault !== 'lost' || this.#over || this.#pinned) throw error
      this.#replaced = true
      return this.#begin(await this.#acquire(true))
    }
  }

  async rcpt(recipient: EnvelopeRecipient): Promise<Reply> {
    const connection = this.#live() ?? (await this.#replace())
    // Another server than the one that the client was told about: its 555 would be the client's bounce.
    if (asksForDsn(recipient) && !connection.profile.dsn) throw incapable(connection)
    const reply = await this.#say(connection, 'RCPT', recipientArgument(recipient))
    if (reply.code === 421) this.#drop()
    else if (isPositive(reply)) this.#accepted.push(recipient)
    return reply
  }

  async deliver(parcel: Parcel): Promise<Delivered> {
    try {
      const connection = this.#live() ?? (await this.#replace())
      const go = await this.#say(connection, 'DATA', '')
      if (go.code !== 354) {
        this.#drop()
        if (go.code >= 400) return { kind: 'answered', reply: go, server: connection.server }
        throw new BackendError('garbage', connection.server, `DATA answered with ${go.code}`)
      }
      return await this.#transmit(connection, parcel)
    } catch (error) {
      const last = this.#connection
      this.#drop()
      if (!(error instanceof BackendError)) throw error
      // Refused in the middle and then closed: the refusal is the answer, whichever of the two was noticed first.
      if (last?.refusal !== undefined) return { kind: 'answered', reply: last.refusal, server: last.server }
      return { kind: 'failed', error }
    }
  }

  abort(): void {
    this.#over = true
    this.#drop()
  }

  // Sends the message in large writes. The last write holds the dot, and nothing stands between the question whether the client is still
  // there and that write.
  async #transmit(connection: BackendConnection, parcel: Parcel): Promise<Delivered> {
    const encoder = new DataEncoder()
    let batch: Buffer[] = []
    let octets = 0
    for await (const piece of parcel.content()) {
      const parts = encoder.push(piece)
      // A message of dots comes in thousands of parts: one write each would be dear.
      if (parts.length > PARTS_MAX) batch.push(Buffer.concat(parts))
      else batch.push(...parts)
      octets += piece.length
      if (octets < BATCH_OCTETS) continue
      await connection.send(batch)
      batch = []
      octets = 0
      if (connection.refusal !== undefined || this.#over || !parcel.wanted()) break
    }
    const { refusal } = connection
    if (refusal !== undefined) {
      connection.destroy()
      return { kind: 'answered', reply: refusal, server: connection.server }
    }
    if (this.#over || !parcel.wanted()) {
      connection.destroy()
      return { kind: 'withdrawn' }
    }
    batch.push(encoder.end())
    return this.#commit(connection, parcel, batch)
  }

  async #commit(connection: BackendConnection, parcel: Parcel, batch: readonly Buffer[]): Promise<Delivered> {
    if (!connection.alive) throw new BackendError('lost', connection.server, 'lost before the dot')
    const { clock, events, dotTimeout, pool } = this.#deps
    const alarm = clock.timer(ALARM_AFTER, () =>
      events.emit('backend-waiting', { backend: connection.server, transaction: parcel.id, milliseconds: ALARM_AFTER }),
    )
    this.#connection = undefined // from here on an abort must not touch it: the backend decides
    try {
      const reply = await connection.sendDot(batch, dotTimeout)
      // Where the client has logged in the connection stays its own, whatever the answer: the transaction is over on both sides.
      if (this.#pinned === undefined) {
        if (reply.code >= 200 && reply.code < 300) pool.release(connection)
        else connection.close()
      }
      if (reply.code >= 300 && reply.code < 400) {
        connection.close()
        return { kind: 'unknown', server: connection.server, why: `the dot was answered with ${reply.code}` }
      }
      return { kind: 'answered', reply, server: connection.server }
    } catch (error) {
      if (!(error instanceof BackendError)) throw error
      return { kind: 'unknown', server: connection.server, why: error.message }
    } finally {
      alarm.clear()
    }
  }

  async #acquire(fresh: boolean): Promise<BackendConnection> {
    if (this.#pinned !== undefined) {
      const own = this.#pinned.take()
      if (!carries(own.profile, this.#envelope.parameters, false)) throw incapable(own)
      return own
    }
    const connection = await this.#deps.pool.acquire({ fresh, client: this.#client })
    if (this.#over) {
      this.#deps.pool.release(connection)
      throw new BackendError('lost', connection.server, 'the client has left')
    }
    // While the client is told about it may leave: then the abort finds the connection here.
    this.#connection = connection
    try {
      await identify(connection, this.#deps.clientAddress, this.#client)
      const dsn = this.#accepted.some(asksForDsn)
      if (!carries(connection.profile, this.#envelope.parameters, dsn)) throw incapable(connection)
    } catch (error) {
      // Given away or closed, never both held and in the pool: the next message on it would be somebody else's.
      this.#connection = undefined
      if (error instanceof BackendError && error.fault === 'incapable') this.#deps.pool.release(connection)
      else connection.close()
      throw error
    }
    return connection
  }

  // The command is on its way when this returns its promise: RCPT may be said right behind it.
  async #begin(connection: BackendConnection): Promise<Reply> {
    this.#connection = connection
    const reply = await this.#say(connection, 'MAIL', this.#mailArgument())
    this.#mailed = isPositive(reply)
    if (this.#mailed) return reply
    this.#drop()
    // A pooled connection that times out says 421 before it reads our MAIL: that is no answer to this message.
    if (reply.code === 421 && connection.uses > 0)
      throw new BackendError('lost', connection.server, 'given up by the server')
    return reply
  }

  #mailArgument(): string {
    const { reversePath, parameters } = this.#envelope
    return ` FROM:<${addressText(reversePath)}>${mailParametersText(parameters)}`
  }

  // The connection on which MAIL was accepted, while it lasts.
  #live(): BackendConnection | undefined {
    if (this.#mailed && this.#connection?.alive) return this.#connection
    this.#connection = undefined
    this.#mailed = false
    return undefined
  }

  // Several recipients that wait for the same replacement share it.
  #replace(): Promise<BackendConnection> {
    this.#replacing ??= this.#replay().finally(() => {
      this.#replacing = undefined
    })
    return this.#replacing
  }

  async #replay(): Promise<BackendConnection> {
    if (this.#pinned !== undefined) throw new BackendError('lost', 'backend', 'lost, and with it the login')
    if (this.#replaced) throw new BackendError('lost', 'backend', 'lost a second time')
    this.#replaced = true
    const connection = await this.#acquire(true)
    const replies = [
      this.#begin(connection),
      ...this.#accepted.map((r) => this.#say(connection, 'RCPT', recipientArgument(r))),
    ]
    for (const reply of await Promise.all(replies)) {
      if (isPositive(reply)) continue
      this.#drop()
      throw new BackendError('lost', connection.server, `answered ${reply.code} to what it had accepted before`)
    }
    return connection
  }

  async #say(connection: BackendConnection, verb: string, argument: string): Promise<Reply> {
    const reply = await connection.command(verb, argument)
    // A 3xx means something only behind DATA: anywhere else the server and we are out of step.
    if (reply.code >= 300 && reply.code < 400 && verb !== 'DATA') {
      connection.destroy()
      throw new BackendError('garbage', connection.server, `${verb} answered with ${reply.code}`)
    }
    return reply
  }

  // Once: where the client has logged in, a second RSET behind the first would find the connection at work, and an abort behind the dot would
  // close it (P2: from there on the backend decides).
  #drop(): void {
    const connection = this.#connection
    this.#connection = undefined
    this.#mailed = false
    if (connection === undefined) return
    if (this.#pinned === undefined) connection.close()
    else this.#pinned.reset()
  }
}

function asksForDsn({ parameters }: EnvelopeRecipient): boolean {
  return parameters.notify !== undefined || parameters.orcpt !== undefined
}

function incapable(connection: BackendConnection): BackendError {
  return new BackendError('incapable', connection.server, 'lacks an extension that the client was offered')
}

function recipientArgument(recipient: EnvelopeRecipient): string {
  return ` TO:<${addressText(recipient.address)}>${rcptParametersText(recipient.parameters)}`
}
