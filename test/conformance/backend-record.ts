// What the scripted backend saw, and the events that a case can wait for.
// A transaction begins with a MAIL that got 2xx. It is aborted where its connection ends, or RSET or EHLO comes, before the reply to its
// final dot. A message counts once its dot came and the answer chosen for it is 2xx; where the backend drops or resets the connection
// instead, or answers 4xx or 5xx, it does not count: nobody was told that it was taken.
import type { HarnessEvent } from './format.ts'

export interface BackendTransaction {
  readonly from: string
  /** Accepted recipients. */
  readonly recipients: string[]
}

export interface BackendMessage extends BackendTransaction {
  /** Decoded: dots removed, the final dot line gone. */
  readonly content: Buffer
}

/** Happenings of a case, with memory: what has already happened need not be waited for. */
export class HarnessEvents {
  readonly #counts = new Map<HarnessEvent, number>()
  readonly #waiting = new Set<() => void>()

  emit(event: HarnessEvent): void {
    this.#counts.set(event, this.count(event) + 1)
    for (const check of this.#waiting) check()
  }

  count(event: HarnessEvent): number {
    return this.#counts.get(event) ?? 0
  }

  wait(event: HarnessEvent, milliseconds: number): Promise<boolean> {
    if (this.count(event) > 0) return Promise.resolve(true)
    return new Promise((resolve) => {
      const finish = (result: boolean): void => {
        clearTimeout(timer)
        this.#waiting.delete(check)
        resolve(result)
      }
      const check = (): void => {
        if (this.count(event) > 0) finish(true)
      }
      const timer = setTimeout(() => finish(false), milliseconds)
      this.#waiting.add(check)
    })
  }
}

export class BackendRecord {
  readonly events: HarnessEvents
  readonly transactions: BackendTransaction[] = []
  readonly messages: BackendMessage[] = []
  /** Every reverse-path the gateway named, refused ones included. */
  readonly mailFrom: string[] = []
  readonly violations: string[] = []
  /** Connection by connection, what was said: for the transcript. */
  readonly dialogue: string[] = []
  readonly #raw = new Map<number, Buffer[]>()
  aborted = 0
  /** Final dots that got 2xx, counted before the reply is written. */
  acceptedDots = 0

  constructor(events: HarnessEvents) {
    this.events = events
  }

  octets(connection: number, chunk: Buffer): void {
    const chunks = this.#raw.get(connection)
    if (chunks === undefined) this.#raw.set(connection, [chunk])
    else chunks.push(chunk)
  }

  /** All octets from the gateway, connection after connection. */
  get raw(): Buffer {
    return Buffer.concat([...this.#raw.values()].flat())
  }

  say(connection: number, direction: '>' | '<' | '-', text: string): void {
    if (this.dialogue.length < 2000) this.dialogue.push(`b${connection} ${direction} ${text}`)
  }

  violation(connection: number, text: string): void {
    this.violations.push(`to the backend: ${text} (connection ${connection})`)
  }

  abort(): void {
    this.aborted++
    this.events.emit('backend_aborted')
  }
}
