// The composition root: from a configuration to a gateway that runs. The only place that knows every part; no part knows it.
// Promise: start either brings everything up or takes down what was up and says why; stop follows section 5, step 11 of the design.
import { readFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { type AppParts, assemble } from './assemble.ts'
import { readIdentities } from './certificates.ts'
import type { LoadedConfig } from './config/load.ts'
import { ConfigError } from './config/problem.ts'
import { networks } from './filters/networks.ts'
import type { AnyFilterDefinition, TableEntry } from './install-filters.ts'
import type { Clock, Timer } from './net/clock.ts'
import type { EventBus } from './observe/events.ts'
import { type AdminServer, startAdmin } from './observe/http.ts'
import type { Log } from './observe/log.ts'
import { createMetrics } from './observe/metrics.ts'
import { ConnectionCounter, SmtpServer } from './proxy/server.ts'
import { ScoresError } from './rules/scores.ts'
import { sweepSpool } from './spool.ts'

/** The filters that are built in. The order decides: of two verdicts the upper one counts (P7). */
const FILTER_TABLE: readonly TableEntry[] = [{ definition: networks as AnyFilterDefinition, enabled: true }]

const RETRY_BACKEND = 5000
const CERTIFICATE_CHECK = 60_000

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
  readonly #clock: Clock
  readonly #counter = new ConnectionCounter()
  readonly #servers = new Map<string, SmtpServer>()
  #parts: AppParts
  /** What running sessions may still use after a reload. */
  readonly #retired: AppParts[] = []
  #admin: AdminServer | undefined
  #retry: Timer | undefined
  #certificateWatch: Timer | undefined
  #state: 'starting' | 'running' | 'stopping' = 'starting'

  private constructor(parts: AppParts) {
    this.events = parts.events
    this.log = parts.log
    this.#clock = parts.deps.clock
    this.#parts = parts
  }

  /** Builds everything that can fail for a reason in the configuration. Throws ConfigError or ScoresError. */
  static async create(options: AppOptions): Promise<App> {
    return new App(await assemble({ ...options, table: FILTER_TABLE }))
  }

  /** Starts listening. Rejects with the system's error where an address cannot be had; nothing listens then. */
  async start(): Promise<readonly StartedListener[]> {
    const { listeners, deps, config } = this.#parts
    const started: StartedListener[] = []
    try {
      await sweepSpool(deps.storage.spoolDir)
      for (const { listener, address } of listeners) {
        const server = new SmtpServer({ listener, address, deps, counter: this.#counter })
        started.push({ name: listener.name, address: await server.listen() })
        this.#servers.set(listener.name, server)
      }
      await this.#startAdmin()
    } catch (error) {
      await this.stop()
      throw error
    }
    this.#state = 'running'
    this.#findBackend()
    this.#watchCertificates()
    for (const { name, address } of started) this.log.info({ listener: name, ...address }, 'listening')
    if (config.domains.length === 0) {
      this.log.warn({}, 'domains is empty: mail for no domain is taken (set domains in the configuration)')
    }
    return started
  }

  /**
   * Takes a new configuration for the sessions to come; running ones keep theirs, and no listener is closed. `read` may throw ConfigError or
   * ScoresError: whatever is wrong, the old configuration stays. Resolves to whether the new one was taken.
   */
  async reload(read: () => LoadedConfig): Promise<boolean> {
    try {
      const { log, events } = this
      const parts = await assemble({ loaded: read(), table: FILTER_TABLE, clock: this.#clock, log, events })
      if (addressesOf(parts) !== addressesOf(this.#parts)) {
        throw new ConfigError([
          { path: 'listeners', message: 'names and addresses cannot be changed without a restart' },
        ])
      }
      // With a backend that answers, no client is turned away for want of its EHLO; one that does not is found later.
      await parts.deps.destination.learn().catch(() => {})
      this.#retired.push(this.#parts)
      await this.#parts.deps.destination.close()
      this.#parts = parts
      for (const { listener } of parts.listeners) this.#servers.get(listener.name)?.use(listener, parts.deps)
      this.#findBackend()
      this.#certificateWatch?.clear()
      this.#watchCertificates()
    } catch (error) {
      if (!(error instanceof ConfigError || error instanceof ScoresError)) throw error
      this.log.error({ problems: error.message.split('\n') }, 'the new configuration cannot be used: the old one stays')
      this.events.emit('config-reloaded', { result: 'refused' })
      return false
    }
    this.log.info({}, 'configuration reloaded')
    this.events.emit('config-reloaded', { result: 'ok' })
    return true
  }

  get adminAddress(): AddressInfo | undefined {
    return this.#admin?.address
  }

  /** Ends as section 5, step 11 of the design says; resolves when nothing runs any more. */
  async stop(): Promise<void> {
    this.#state = 'stopping'
    await Promise.all([...this.#servers.values()].map((server) => server.stop()))
    this.#retry?.clear()
    this.#certificateWatch?.clear()
    await this.#parts.deps.destination.close()
    await this.#closeFilters()
    await this.#admin?.close()
  }

  // The profiles of the servers decide what EHLO announces: ask for them before the first client does, and again until each has answered.
  #findBackend(): void {
    if (this.#state !== 'running') return
    this.#retry?.clear()
    this.#parts.deps.destination.learn().then(
      () => this.#backendFound(),
      (error: unknown) => {
        this.log.warn({ error: String(error) }, 'backend not reached, trying again')
        this.#retry = this.#clock.timer(RETRY_BACKEND, () => this.#findBackend())
      },
    )
  }

  #backendFound(): void {
    this.log.info({}, 'backend reached')
    const { pool } = this.#parts
    if (this.#state !== 'running' || pool === undefined || pool.allKnown) return
    this.#retry = this.#clock.timer(RETRY_BACKEND, () => this.#findBackend())
  }

  // A renewed certificate is taken within a minute, without a word from anybody.
  #watchCertificates(): void {
    if (this.#parts.identities === undefined) return
    this.#certificateWatch = this.#clock.timer(CERTIFICATE_CHECK, () => {
      this.#renewCertificates().finally(() => {
        if (this.#state === 'running') this.#watchCertificates()
      })
    })
  }

  async #renewCertificates(): Promise<void> {
    const parts = this.#parts
    try {
      const identities = await readIdentities(parts.loaded)
      if (identities === undefined || JSON.stringify(identities) === JSON.stringify(parts.identities)) return
      for (const { listener } of parts.listeners) listener.tls?.terminator.replace(identities)
      parts.identities = identities
      this.log.info({}, 'new certificate taken')
    } catch (error) {
      this.log.error({ error: String(error) }, 'the certificate files cannot be used: the old certificate stays')
    }
  }

  async #closeFilters(): Promise<void> {
    for (const { name, filter } of [...this.#retired, this.#parts].flatMap((parts) => parts.filters)) {
      try {
        await filter.close?.()
      } catch (error) {
        this.log.warn({ filter: name, error: String(error) }, 'filter threw in close')
      }
    }
  }

  async #startAdmin(): Promise<void> {
    const { address } = this.#parts.config.admin
    if (address === 'off') return
    const registry = createMetrics({
      events: this.events,
      version: await ownVersion(),
      sources: {
        openSessions: () => [...this.#servers].map(([listener, server]) => ({ listener, count: server.openSessions })),
        backendConnections: () => this.#parts.pool?.state() ?? [],
      },
    })
    this.#admin = await startAdmin({ ...address, registry, unready: () => this.#unready() })
  }

  #unready(): string[] {
    const reasons: string[] = []
    if (this.#state !== 'running') reasons.push(this.#state)
    if (!this.#parts.deps.destination.available()) reasons.push('no backend answers')
    return reasons
  }
}

// What a reload cannot change: sockets that are bound.
function addressesOf({ listeners }: AppParts): string {
  return JSON.stringify(listeners.map(({ listener, address }) => [listener.name, address]))
}

/** The version in package.json, which lies beside src and dist alike. */
export async function ownVersion(): Promise<string> {
  const text = await readFile(new URL('../package.json', import.meta.url), 'utf8')
  return String((JSON.parse(text) as { version: unknown }).version)
}
