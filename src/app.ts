// The composition root: from a configuration to a gateway that runs. The only place that knows every part; no part knows it.
// Promise: start either brings everything up or takes down what was up and says why; stop follows section 5, step 11 of the design.
import { readFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { type AppParts, assemble } from './assemble.ts'
import type { LoadedConfig } from './config/load.ts'
import type { Config } from './config/schema.ts'
import type { InstalledFilter } from './filter/ask.ts'
import { networks } from './filters/networks.ts'
import type { AnyFilterDefinition, TableEntry } from './install-filters.ts'
import type { Clock, Timer } from './net/clock.ts'
import type { EventBus } from './observe/events.ts'
import { type AdminServer, startAdmin } from './observe/http.ts'
import type { Log } from './observe/log.ts'
import { createMetrics } from './observe/metrics.ts'
import type { BackendPool } from './proxy/backend-pool.ts'
import type { ProxyDeps } from './proxy/deps.ts'
import { ConnectionCounter, SmtpServer } from './proxy/server.ts'
import { sweepSpool } from './spool.ts'

/** The filters that are built in. The order decides: of two verdicts the upper one counts (P7). */
const FILTER_TABLE: readonly TableEntry[] = [{ definition: networks as AnyFilterDefinition, enabled: true }]

const RETRY_BACKEND = 5000

export interface AppOptions {
  readonly loaded: LoadedConfig
  readonly clock?: Clock
  readonly log?: Log
}

export interface StartedListener {
  readonly name: string
  readonly address: AddressInfo
}

export class App {
  readonly events: EventBus
  readonly log: Log
  readonly #config: Config
  readonly #clock: Clock
  readonly #counter = new ConnectionCounter()
  readonly #deps: ProxyDeps
  readonly #pool: BackendPool | undefined
  readonly #servers = new Map<string, SmtpServer>()
  readonly #filters: readonly InstalledFilter[]
  readonly #listeners: AppParts['listeners']
  #admin: AdminServer | undefined
  #retry: Timer | undefined
  #state: 'starting' | 'running' | 'stopping' = 'starting'

  private constructor(parts: AppParts) {
    this.events = parts.events
    this.log = parts.log
    this.#config = parts.config
    this.#clock = parts.deps.clock
    this.#deps = parts.deps
    this.#pool = parts.pool
    this.#filters = parts.filters
    this.#listeners = parts.listeners
  }

  /** Builds everything that can fail for a reason in the configuration. Throws ConfigError or ScoresError. */
  static async create(options: AppOptions): Promise<App> {
    return new App(await assemble({ ...options, table: FILTER_TABLE }))
  }

  /** Starts listening. Rejects with the system's error where an address cannot be had; nothing listens then. */
  async start(): Promise<readonly StartedListener[]> {
    const started: StartedListener[] = []
    try {
      for (const { listener, address } of this.#listeners) {
        const server = new SmtpServer({ listener, address, deps: this.#deps, counter: this.#counter })
        started.push({ name: listener.name, address: await server.listen() })
        this.#servers.set(listener.name, server)
      }
      await this.#startAdmin()
      await sweepSpool(this.#deps.storage.spoolDir)
    } catch (error) {
      await this.stop()
      throw error
    }
    this.#state = 'running'
    this.#findBackend()
    for (const { name, address } of started) this.log.info({ listener: name, ...address }, 'listening')
    if (this.#config.domains.length === 0) {
      this.log.warn({}, 'domains is empty: mail for no domain is taken (set domains in the configuration)')
    }
    return started
  }

  get adminAddress(): AddressInfo | undefined {
    return this.#admin?.address
  }

  /** Ends as section 5, step 11 of the design says; resolves when nothing runs any more. */
  async stop(): Promise<void> {
    this.#state = 'stopping'
    await Promise.all([...this.#servers.values()].map((server) => server.stop()))
    this.#retry?.clear()
    await this.#deps.destination.close()
    await this.#closeFilters()
    await this.#admin?.close()
  }

  // The profiles of the servers decide what EHLO announces: ask for them before the first client does, and again until each has answered.
  #findBackend(): void {
    if (this.#state !== 'running') return
    this.#deps.destination.learn().then(
      () => this.#backendFound(),
      (error: unknown) => {
        this.log.warn({ error: String(error) }, 'backend not reached, trying again')
        this.#retry = this.#clock.timer(RETRY_BACKEND, () => this.#findBackend())
      },
    )
  }

  #backendFound(): void {
    this.log.info({}, 'backend reached')
    if (this.#state !== 'running' || this.#pool === undefined || this.#pool.allKnown) return
    this.#retry = this.#clock.timer(RETRY_BACKEND, () => this.#findBackend())
  }

  async #closeFilters(): Promise<void> {
    for (const { name, filter } of this.#filters) {
      try {
        await filter.close?.()
      } catch (error) {
        this.log.warn({ filter: name, error: String(error) }, 'filter threw in close')
      }
    }
  }

  async #startAdmin(): Promise<void> {
    const { address } = this.#config.admin
    if (address === 'off') return
    const registry = createMetrics({
      events: this.events,
      version: await ownVersion(),
      sources: {
        openSessions: () => [...this.#servers].map(([listener, server]) => ({ listener, count: server.openSessions })),
        backendConnections: () => this.#pool?.state() ?? [],
      },
    })
    this.#admin = await startAdmin({ ...address, registry, unready: () => this.#unready() })
  }

  #unready(): string[] {
    const reasons: string[] = []
    if (this.#state !== 'running') reasons.push(this.#state)
    if (!this.#deps.destination.available()) reasons.push('no backend answers')
    return reasons
  }
}

/** The version in package.json, which lies beside src and dist alike. */
export async function ownVersion(): Promise<string> {
  const text = await readFile(new URL('../package.json', import.meta.url), 'utf8')
  return String((JSON.parse(text) as { version: unknown }).version)
}
