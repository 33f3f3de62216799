// Failed logins, counted by client and by account over all sessions: somebody who guesses passwords uses many connections.
// Promise: memory is bounded, however many addresses and names are tried; a success of an account forgets its failures, not the client's.
// Not taken: a store that several gateways share; it comes with the filters that need one.
import type { Clock } from '../net/clock.ts'
import { clientKey } from '../net/ip.ts'

const WINDOW = 10 * 60_000
const ENTRIES_MAX = 10_000

interface Entry {
  failures: number
  readonly since: number
}

export class AuthGuard {
  readonly #clock: Clock
  readonly #limit: number
  readonly #entries = new Map<string, Entry>()

  /** `limit`: failures within ten minutes after which an address or an account must wait. */
  constructor(clock: Clock, limit: number) {
    this.#clock = clock
    this.#limit = limit
  }

  /** Whether the client has to wait before it may try again. */
  blocksClient(address: string): boolean {
    return this.#count(`client ${clientKey(address)}`) >= this.#limit
  }

  blocksAccount(account: string | undefined): boolean {
    return account !== undefined && this.#count(`account ${account}`) >= this.#limit
  }

  failed(address: string, account: string | undefined): void {
    this.#add(`client ${clientKey(address)}`)
    if (account !== undefined) this.#add(`account ${account}`)
  }

  succeeded(account: string | undefined): void {
    if (account !== undefined) this.#entries.delete(`account ${account}`)
  }

  #count(key: string): number {
    const entry = this.#entries.get(key)
    return entry === undefined || this.#clock.now() - entry.since > WINDOW ? 0 : entry.failures
  }

  #add(key: string): void {
    const failures = this.#count(key) + 1
    const since = failures === 1 ? this.#clock.now() : (this.#entries.get(key)?.since ?? this.#clock.now())
    // Set anew, so that the oldest stands first and is given up first.
    this.#entries.delete(key)
    this.#entries.set(key, { failures, since })
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= ENTRIES_MAX) break
      this.#entries.delete(oldest)
    }
  }
}
