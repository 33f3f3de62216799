// One mail transaction: envelope, what the filters found, and the backend's side of it.
// Promise (P11): it is dropped, never reset; `end` happens exactly once, gives up the backend connection and the spool file if they are still
// held, and emits the one `transaction-ended` event.
import type { Decided, FilterChain, StageResult } from '../filter/chain.ts'
import {
  FactBoard,
  type Logger,
  type Recipient,
  type SessionView,
  type TransactionView,
  tagged,
} from '../filter/context.ts'
import type { HeaderField } from '../filter/filter.ts'
import { type Found, type Weighed, weigh } from '../filter/score.ts'
import { firstField, unfolded } from '../message/headers.ts'
import type { Message } from '../message/message.ts'
import type { AskedFilter, Outcome, TransactionOutcome } from '../observe/events.ts'
import { type Address, addressText } from '../smtp/address.ts'
import { type Reply, replyText } from '../smtp/reply.ts'
import type { Chunks } from './bdat.ts'
import type { ProxyDeps } from './deps.ts'
import type { DestinationTransaction, Envelope, EnvelopeRecipient } from './destination.ts'

export interface TransactionEnd {
  readonly outcome: Outcome
  readonly reply: Reply | undefined
  readonly action?: TransactionOutcome['action']
  readonly reason?: string
  readonly backend?: { readonly name: string; readonly reply: Reply }
}

// What is kept for the event: a client may go on with refused recipients for long.
const ANSWERED_MAX = 500
const ASKED_MAX = 1000
const HEADERS_MAX = 100

export class Transaction implements TransactionView {
  readonly id: string
  readonly session: SessionView
  readonly envelope: Envelope
  readonly facts = new FactBoard()
  readonly log: Logger
  readonly found: Found[] = []
  readonly headers: HeaderField[] = []
  readonly accepted: EnvelopeRecipient[] = []
  /** The verdict of connect, HELO or MAIL that waits for RCPT. */
  held: Decided | undefined
  trusted = false
  /** The client is condemned and an exempt recipient was taken: no others are, and the content is not a reason to refuse. */
  exemptOnly = false
  backend: DestinationTransaction | undefined
  message: Message | undefined
  /** The message comes in chunks (BDAT). */
  chunks: Chunks | undefined
  readonly #deps: ProxyDeps
  readonly #chain: FilterChain
  readonly #asked: AskedFilter[] = []
  readonly #symbols = new Set<string>()
  readonly #answered: { address: string; reply: string }[] = []
  readonly #started: number
  #ended = false

  constructor(deps: ProxyDeps, chain: FilterChain, options: { id: string; session: SessionView; envelope: Envelope }) {
    this.#deps = deps
    this.#chain = chain
    this.id = options.id
    this.session = options.session
    this.envelope = options.envelope
    this.log = tagged(deps.log, { session: options.session.id, id: options.id })
    this.#started = deps.clock.now()
  }

  get reversePath(): Address | null {
    return this.envelope.reversePath
  }

  get declaredSize(): number | undefined {
    return this.envelope.parameters.size
  }

  get recipients(): readonly Recipient[] {
    return this.accepted
  }

  get symbols(): readonly string[] {
    return this.found.map((f) => f.finding.symbol)
  }

  /** Takes over what a stage found; its verdict is the caller's to act on. */
  absorb(result: StageResult): void {
    this.note(result)
    this.trusted ||= result.trusted
  }

  /** Takes over what was found about one recipient: it says nothing about the others, trust least of all. */
  note(result: StageResult): void {
    for (const found of result.found) {
      const key = `${found.filter} ${found.finding.symbol}`
      if (this.#symbols.has(key)) continue
      this.#symbols.add(key)
      this.found.push(found)
    }
    this.headers.push(...result.headers.slice(0, HEADERS_MAX - this.headers.length))
    this.#asked.push(...result.asked.slice(0, ASKED_MAX - this.#asked.length))
  }

  weighed(): Weighed {
    return weigh(this.found, this.#deps.weightOf)
  }

  /** Notes what a recipient was answered. */
  answered(address: Address, reply: Reply): void {
    if (this.#answered.length < ANSWERED_MAX)
      this.#answered.push({ address: addressText(address), reply: oneLine(reply) })
  }

  end(end: TransactionEnd): void {
    if (this.#ended) return
    this.#ended = true
    this.backend?.abort()
    const outcome = this.#outcome(end)
    this.message?.dispose()
    this.#deps.events.emit('transaction-ended', outcome)
    this.#chain.ended(this, outcome)
  }

  #outcome(end: TransactionEnd): TransactionOutcome {
    const { score, findings } = this.weighed()
    const { session, message } = this
    const messageId = message === undefined ? undefined : firstField(message.header().fields, 'message-id')?.value
    return {
      id: this.id,
      session: session.id,
      listener: session.listener.name,
      client: session.client.address,
      helo: session.helo?.name ?? '',
      from: addressText(this.reversePath),
      recipients: this.#answered,
      size: message?.size ?? 0,
      messageId: messageId === undefined ? undefined : unfolded(messageId),
      outcome: end.outcome,
      action: end.action,
      reason: end.reason,
      reply: end.reply === undefined ? '' : oneLine(end.reply),
      backend: end.backend === undefined ? undefined : { name: end.backend.name, reply: oneLine(end.backend.reply) },
      score,
      findings,
      asked: this.#asked,
      milliseconds: this.#deps.clock.now() - this.#started,
    }
  }
}

function oneLine(reply: Reply): string {
  return replyText(reply).trimEnd().replaceAll('\r\n', ' / ')
}
