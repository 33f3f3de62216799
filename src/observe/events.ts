// What happened, as values: log, metrics and (later) the journal are only listeners of these events.
// Everything in them is plain data that is safe to keep: no buffers, no sockets, no references into a session.
// Not taken: node:events. Its untyped names and its throwing 'error' event are wrong for a bus whose listeners must never hurt the mail.

/** `cancelled`: the matter was settled before it answered. */
export type FilterAnswer = 'nothing' | 'findings' | 'trust' | 'defer' | 'reject' | 'hangup' | 'failed' | 'cancelled'

/** One filter asked once. */
export interface AskedFilter {
  readonly filter: string
  readonly stage: string
  readonly answer: FilterAnswer
  readonly milliseconds: number
  readonly symbols: readonly string[]
  readonly reason?: string
  /** Why it failed: `threw`, `timeout`, `nonsense`. */
  readonly failure?: { readonly kind: 'threw' | 'timeout' | 'nonsense'; readonly message: string }
  /** It ran in shadow mode: counted and logged, without effect. */
  readonly shadow: boolean
  readonly recipient?: string
}

export interface WeighedFinding {
  readonly symbol: string
  readonly score: number
  /** Where the weight came from: `scores.yaml:12`, or `no weight`. */
  readonly source: string
  readonly filter: string
  readonly detail?: string
}

export type Outcome =
  | 'delivered' // the backend said 2xx to the dot
  | 'refused' // by a filter, the score or a rule of the protocol, with 5xx
  | 'deferred' // the same with 4xx
  | 'backend-refused' // the backend's own 4xx or 5xx
  | 'backend-lost' // before the dot
  | 'unknown' // the dot was sent and its answer lost (P2)
  | 'client-gone'
  | 'reset' // RSET, a new EHLO, QUIT before the dot

export interface TransactionOutcome {
  readonly id: string
  readonly session: string
  readonly listener: string
  readonly client: string
  readonly helo: string
  readonly from: string
  readonly recipients: readonly { readonly address: string; readonly reply: string }[]
  readonly size: number
  readonly messageId: string | undefined
  readonly outcome: Outcome
  readonly action: 'deliver' | 'tag' | 'defer' | 'reject' | undefined
  readonly reason: string | undefined
  /** What the client was told last. */
  readonly reply: string
  /** What the backend said to the dot, and which backend. */
  readonly backend: { readonly name: string; readonly reply: string } | undefined
  readonly score: number
  readonly findings: readonly WeighedFinding[]
  readonly asked: readonly AskedFilter[]
  readonly milliseconds: number
}

export interface SessionOutcome {
  readonly id: string
  readonly listener: string
  readonly client: string
  readonly helo: string
  /** How it ended: `quit`, `closed`, `timeout`, `errors`, `hung-up`, … */
  readonly end: string
  readonly commands: number
  readonly errors: number
  readonly transactions: number
  readonly delivered: number
  readonly bytesIn: number
  readonly bytesOut: number
  readonly milliseconds: number
  /** The filters of connect and HELO that were asked, for sessions that never got to MAIL. */
  readonly asked: readonly AskedFilter[]
}

export interface EventMap {
  'session-started': { readonly id: string; readonly listener: string; readonly client: string }
  'session-refused': { readonly listener: string; readonly client: string; readonly reason: string }
  'session-ended': SessionOutcome
  'transaction-ended': TransactionOutcome
  'filter-asked': AskedFilter
  'config-reloaded': { readonly result: 'ok' | 'refused' }
  login: {
    readonly session: string
    readonly listener: string
    readonly client: string
    /** `not-done`: cancelled, or the backend could not. */
    readonly result: 'ok' | 'failed' | 'not-done'
  }
  'tls-handshake': { readonly listener: string; readonly result: 'ok' | 'failed'; readonly protocol: string }
  replied: { readonly stage: string; readonly code: number }
  'backend-connected': { readonly backend: string; readonly milliseconds: number }
  'backend-failed': { readonly backend: string; readonly what: string }
  'backend-replied': {
    readonly backend: string
    readonly command: string
    readonly code: number
    readonly milliseconds: number
  }
  'backend-waiting': { readonly backend: string; readonly transaction: string; readonly milliseconds: number }
}
export type EventName = keyof EventMap

type Listener<K extends EventName> = (event: EventMap[K]) => void

/** Delivers each event to its listeners, in the order they came. A listener that throws is reported and does not reach the mail. */
export class EventBus {
  readonly #listeners = new Map<EventName, Listener<never>[]>()
  readonly #onError: (event: EventName, error: unknown) => void

  constructor(onError: (event: EventName, error: unknown) => void) {
    this.#onError = onError
  }

  on<K extends EventName>(name: K, listener: Listener<K>): void {
    const list = this.#listeners.get(name)
    if (list === undefined) this.#listeners.set(name, [listener as Listener<never>])
    else list.push(listener as Listener<never>)
  }

  emit<K extends EventName>(name: K, event: EventMap[K]): void {
    for (const listener of this.#listeners.get(name) ?? []) {
      try {
        ;(listener as Listener<K>)(event)
      } catch (error) {
        this.#onError(name, error)
      }
    }
  }
}
