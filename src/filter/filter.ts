// The contract of a filter: all that the author of one has to read.
// A filter reports what it found; it does not act. Findings are weighed by rules/scores.yaml, `actions:` in the configuration acts on the
// sum. A hard verdict is the exception and names its reason. README.md shows a whole filter; test/support/verdict-filter.ts is another.
import type { Reply } from '../smtp/reply.ts'
import type {
  Ended,
  FactName,
  Facts,
  FilterKit,
  Logger,
  MessageView,
  Recipient,
  SessionView,
  TransactionView,
} from './context.ts'

export type { Ended, FactName, Facts, FilterKit, Logger, MessageView, Recipient, SessionView, TransactionView }

/** `data` is asked before 354, `message` after the final dot. */
export const STAGES = ['connect', 'helo', 'mail', 'rcpt', 'data', 'message'] as const
export type Stage = (typeof STAGES)[number]

/**
 * Implement only the stages you care for. One object serves all sessions, so it keeps no state of a session: what belongs to a session
 * goes to the fact board (`io.set`). A stage may answer at once or by a promise; `undefined` means "nothing to say".
 * An exception, a rejection, an answer of the wrong shape or none within the time-out is a failure of the filter: it leaves the finding
 * `<NAME>_UNAVAILABLE`, and `on_failure` decides between going on and 451 (P6).
 */
export interface Filter {
  connect?(session: SessionView, io: FilterIo): Answer
  helo?(session: SessionView, io: FilterIo): Answer
  mail?(tx: TransactionView, io: FilterIo): Answer
  rcpt?(tx: TransactionView, rcpt: Recipient, io: FilterIo): Answer
  data?(tx: TransactionView, io: FilterIo): Answer
  message?(tx: TransactionView, message: MessageView, io: FilterIo): Answer
  /** Told after the backend answered a recipient. */
  recipientAnswered?(tx: TransactionView, rcpt: Recipient, reply: Reply): void
  /** Told once for each transaction, with everything. */
  ended?(tx: TransactionView, outcome: Ended): void
  close?(): Promise<void>
}

export type Answer = Opinion | undefined | Promise<Opinion | undefined>

export interface FilterIo {
  /** Aborted at the deadline and when nobody waits for the answer any more: pass it to whatever waits. */
  readonly signal: AbortSignal
  readonly log: Logger
  /** Puts a fact on the board of the session (connect, helo) or of the transaction; only facts named in `writes`. */
  set<K extends FactName>(name: K, value: Facts[K]): void
}

export interface Opinion {
  readonly findings?: readonly Finding[]
  readonly verdict?: Verdict
  /** Prepended to the message if it is delivered. */
  readonly headers?: readonly HeaderField[]
}

/** A fact with a name: its weight lives in rules/scores.yaml. `symbol` is upper case: letters, digits, `_`. */
export interface Finding {
  readonly symbol: string
  readonly detail?: string
}

/** Why, for our own log and journal. The stranger is told only the reply. */
export type Reason = string

export type Verdict =
  /** Skip the remaining filters, but never those that run `always` (attachments, virus scanners). */
  | { readonly kind: 'trust'; readonly reason: Reason }
  /** `reply` must be 4xx for defer and 5xx for reject; without one: 451 4.7.1 and 550 5.7.1. */
  | { readonly kind: 'defer' | 'reject'; readonly reason: Reason; readonly reply?: Reply }
  /** 421 and close. */
  | { readonly kind: 'hangup'; readonly reason: Reason; readonly reply?: Reply }

export interface HeaderField {
  readonly name: string
  readonly value: string
}

export interface FilterDefinition<Options> {
  /** As in the configuration, logs and metric labels: lower case, digits, `_`. */
  readonly name: string
  /** Checks and completes what stands under `filters: {<name>: …}`; throws on bad input. Any zod schema fits. */
  readonly options?: { parse(raw: unknown): Options }
  readonly reads?: readonly FactName[]
  /** Each fact has one writer, which stands before its readers in the filter table. */
  readonly writes?: readonly FactName[]
  /** Runs for trusted sessions too. */
  readonly always?: true
  /** The greeting waits for the answer of `connect` (a greet delay). */
  readonly holdsGreeting?: true
  create(options: Options, kit: FilterKit): Filter | Promise<Filter>
}

/** Returns its argument: gives the author of a filter the types. A plugin is a module whose default export is such a definition. */
export function defineFilter<Options>(definition: FilterDefinition<Options>): FilterDefinition<Options> {
  return definition
}
