// Time that stands still until a test moves it. No test sleeps: `advance` fires what falls due, in order, and lets everything that follows
// from it settle before the next timer, as it would between two ticks of a real clock.
import type { Clock, Timer } from '../../src/net/clock.ts'

interface Entry {
  readonly due: number
  readonly order: number
  readonly fire: () => void
}

const SETTLE_TURNS = 25

/** Lets promises, streams and callbacks of this process run until nothing of them is left. Waits for no disk and no network. */
export async function settle(turns = SETTLE_TURNS): Promise<void> {
  for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve))
}

export class FakeClock implements Clock {
  #now = 0
  #order = 0
  readonly #start: number
  readonly #entries = new Set<Entry>()

  constructor(wall = '2026-03-01T12:00:00Z') {
    this.#start = Date.parse(wall)
  }

  now(): number {
    return this.#now
  }

  wall(): Date {
    return new Date(this.#start + this.#now)
  }

  /** Timers that wait: what ended should have left none. */
  get pending(): number {
    return this.#entries.size
  }

  timer(milliseconds: number, fire: () => void): Timer {
    const entry: Entry = { due: this.#now + Math.max(0, milliseconds), order: this.#order++, fire }
    this.#entries.add(entry)
    return {
      clear: () => {
        this.#entries.delete(entry)
      },
    }
  }

  /** Moves time on, timer by timer. */
  async advance(milliseconds: number): Promise<void> {
    const end = this.#now + milliseconds
    await settle()
    for (let next = this.#next(end); next !== undefined; next = this.#next(end)) {
      this.#now = Math.max(this.#now, next.due)
      this.#entries.delete(next)
      next.fire()
      await settle()
    }
    this.#now = end
  }

  #next(end: number): Entry | undefined {
    let first: Entry | undefined
    for (const entry of this.#entries) {
      if (entry.due > end) continue
      if (first === undefined || entry.due < first.due || (entry.due === first.due && entry.order < first.order)) {
        first = entry
      }
    }
    return first
  }
}
