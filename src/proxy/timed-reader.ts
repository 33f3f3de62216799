// Reading a message, or what is thrown away in place of one, against the clock.
// Promise: idle time, whole time and rate are bounded (limits.idle, data_time, data_rate), so that nobody holds a connection by dripping.
import type { Reply } from '../smtp/reply.ts'
import { STOPPING, TOO_SLOW } from './replies.ts'
import type { Session } from './session.ts'

// Minimum rate: nobody is judged by the first minute.
const RATE_CREDIT = 60_000

/** The end never came. */
export interface Broken {
  /** Undefined where the client is gone. */
  readonly reply: Reply | undefined
  readonly why: string
}

export class TimedReader {
  readonly #session: Session
  readonly #started: number
  #octets = 0

  constructor(session: Session) {
    this.#session = session
    this.#started = session.deps.clock.now()
  }

  /** Octets that came together with the command count as well. */
  came(octets: number): void {
    this.#octets += octets
  }

  /** The next octets from the client, or why there are none. */
  async read(): Promise<Buffer | Broken> {
    const { deps, wire } = this.#session
    const { clock, limits } = deps
    const elapsed = clock.now() - this.#started
    if (this.#octets < (limits.dataRate * (elapsed - RATE_CREDIT)) / 1000) {
      return { reply: TOO_SLOW, why: `fewer than ${limits.dataRate} octets a second` }
    }
    const chunk = await wire.read(Math.min(limits.idle, limits.dataTime - elapsed))
    if (chunk === 'end') return { reply: undefined, why: 'the client left inside the message' }
    if (chunk === 'timeout') return { reply: TOO_SLOW, why: 'the client stalled inside the message' }
    if (chunk === 'interrupted') return { reply: STOPPING, why: 'the gateway stopped inside the message' }
    this.#octets += chunk.length
    return chunk
  }
}
