// What a filter sees of a session, a transaction and a message, and the fact board.
// Views are read-only: a filter changes nothing but through its answer and the facts that it declared.

import type { HeaderField as ParsedField } from '../message/headers.ts'
import type { Clock } from '../net/clock.ts'
import type { TransactionOutcome } from '../observe/events.ts'
import type { Address } from '../smtp/address.ts'

/**
 * The facts that filters share, by name. A filter of a site adds its own by declaration merging:
 * `declare module 'postern/filter' { interface Facts { mine: string } }`.
 */
export interface Facts {
  /** Bytes came before the greeting was sent (connect stage; written by the session itself). */
  earlyTalker: boolean
  /** The entry of the `networks` filter's `allow` or `skip` that holds the client. */
  knownNetwork: string
}
export type FactName = keyof Facts

export interface FactsView {
  get<K extends FactName>(name: K): Facts[K] | undefined
}

/** One board for the connection, one for what HELO brought (over the first), one for each transaction. Names are a Map's keys, so `__proto__` is a name like any other. */
export class FactBoard implements FactsView {
  readonly #values = new Map<string, unknown>()
  readonly #below: FactsView | undefined

  constructor(below?: FactsView) {
    this.#below = below
  }

  get<K extends FactName>(name: K): Facts[K] | undefined {
    return this.#values.has(name) ? (this.#values.get(name) as Facts[K]) : this.#below?.get(name)
  }

  set<K extends FactName>(name: K, value: Facts[K]): void {
    this.#values.set(name, value)
  }

  clear(): void {
    this.#values.clear()
  }
}

export interface Logger {
  debug(fields: object, text: string): void
  info(fields: object, text: string): void
  warn(fields: object, text: string): void
  error(fields: object, text: string): void
}

/** The same log with fields that every line gets: the ids by which a mail is found again. */
export function tagged(log: Logger, tags: object): Logger {
  return {
    debug: (fields, text) => log.debug({ ...tags, ...fields }, text),
    info: (fields, text) => log.info({ ...tags, ...fields }, text),
    warn: (fields, text) => log.warn({ ...tags, ...fields }, text),
    error: (fields, text) => log.error({ ...tags, ...fields }, text),
  }
}

export interface ListenerView {
  readonly name: string
  readonly kind: 'mx' | 'submission'
}

export interface SessionView {
  /** The id that stands in every log line of the session. */
  readonly id: string
  readonly listener: ListenerView
  /** In canonical form; an IPv4-mapped IPv6 address is shown as IPv4. */
  readonly client: { readonly address: string; readonly port: number }
  readonly helo: { readonly verb: 'HELO' | 'EHLO'; readonly name: string } | undefined
  readonly facts: FactsView
}

export interface Recipient {
  readonly address: Address
}

export interface TransactionView {
  /** Stands in replies, in X-Postern-Id and in the log. */
  readonly id: string
  readonly session: SessionView
  /** `null` is the null reverse-path, `MAIL FROM:<>`. */
  readonly reversePath: Address | null
  /** The SIZE that the client declared, in octets. */
  readonly declaredSize: number | undefined
  /** Recipients that the backend accepted. */
  readonly recipients: readonly Recipient[]
  readonly facts: FactsView
  /** Symbols found so far, in the order of the filter table. */
  readonly symbols: readonly string[]
}

export interface MessageView {
  /** Octets of the decoded message: CRLF line ends, dots removed. */
  readonly size: number
  /** The fields of the header in order; names as written. */
  readonly headers: readonly ParsedField[]
  /** The whole message; reads it back from the spool where it is large. */
  bytes(): Promise<Buffer>
  chunks(): AsyncIterable<Buffer>
}

export type Ended = TransactionOutcome

/** What a filter may use at creation. */
export interface FilterKit {
  readonly clock: Clock
  readonly log: Logger
  /** The folder of the configuration file: relative paths in options start here. */
  readonly baseDir: string
  /**
   * Expands the `file:NAME` entries of a list (one entry a line, `#` comments). `defect` says what is wrong with an entry, if anything.
   * Throws with file:line.
   */
  readList(entries: readonly string[], defect?: (entry: string) => string | undefined): readonly string[]
}
