// The composition root: from a configuration to a gateway that runs. The only place that knows every part; no part knows it.
// Promise: start either brings everything up or takes down what was up and says why; stop follows section 5, step 11 of the design.
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, statfs, unlink } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { LoadedConfig } from './config/load.ts'
import { ConfigError } from './config/problem.ts'
import type { BackendConfig, Config } from './config/schema.ts'
import { FilterChain } from './filter/chain.ts'
import { networks } from './filters/networks.ts'
import { type AnyFilterDefinition, installFilters, type TableEntry } from './install-filters.ts'
import { type Clock, systemClock } from './net/clock.ts'
import { NetworkSet } from './net/ip.ts'
import { EventBus } from './observe/events.ts'
import { type AdminServer, startAdmin } from './observe/http.ts'
import { type Log, logEvents, openLog } from './observe/log.ts'
import { createMetrics } from './observe/metrics.ts'
import { BackendPool } from './proxy/backend-pool.ts'
import type { Limits, ProxyDeps } from './proxy/deps.ts'
import type { Destination } from './proxy/destination.ts'
import { MaildirDestination } from './proxy/maildir-destination.ts'
import type { RelayPolicy } from './proxy/relay.ts'
import { ConnectionCounter, SmtpServer } from './proxy/server.ts'
import { SmtpDestination } from './proxy/smtp-destination.ts'
import { Scores } from './rules/scores.ts'
import { parseDomain } from './smtp/address.ts'

/** The filters that are built in. The order decides: of two verdicts the upper one counts (P7). */
const FILTER_TABLE: readonly TableEntry[] = [{ definition: networks as AnyFilterDefinition, enabled: true }]

const RETRY_BACKEND = 5000
const ROOM_CACHE = 2000

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
  #admin: AdminServer | undefined
  #state: 'starting' | 'running' | 'stopping' = 'starting'

  private constructor(parts: AppParts) {
    this.events = parts.events
    this.log = parts.log
    this.#config = parts.config
    this.#clock = parts.deps.clock
    this.#deps = parts.deps
    this.#pool = parts.pool
  }

  /** Builds everything that can fail for a reason in the configuration. Throws ConfigError or ScoresError. */
  static async create(options: AppOptions): Promise<App> {
    return new App(await buildParts(options))
  }

  /** Starts listening. Rejects with the system's error where an address cannot be had; nothing listens then. */
  async start(): Promise<readonly StartedListener[]> {
    const started: StartedListener[] = []
    try {
      for (const { name, kind, address, bare_newline } of this.#config.listeners) {
        const listener = { name, kind, bareNewline: bare_newline }
        const server = new SmtpServer({ listener, address, deps: this.#deps, counter: this.#counter })
        started.push({ name, address: await server.listen() })
        this.#servers.set(name, server)
      }
      await this.#startAdmin()
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
    await this.#deps.destination.close()
    await this.#admin?.close()
  }

  // The profile of the backend decides what EHLO announces: ask for it before the first client does, and again until it answers.
  #findBackend(): void {
    const { destination } = this.#deps
    if (this.#state !== 'running' || destination.profile() !== undefined) return
    destination.learn().then(
      () => this.log.info({}, 'backend reached'),
      (error: unknown) => {
        this.log.warn({ error: String(error) }, 'backend not reached, trying again')
        this.#clock.timer(RETRY_BACKEND, () => this.#findBackend())
      },
    )
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
    if (this.#deps.destination.profile() === undefined) reasons.push('no backend has answered')
    return reasons
  }
}

interface AppParts {
  readonly config: Config
  readonly events: EventBus
  readonly log: Log
  readonly deps: ProxyDeps
  readonly pool: BackendPool | undefined
}

async function buildParts({ loaded, clock = systemClock, log: given }: AppOptions): Promise<AppParts> {
  const { config, baseDir } = loaded
  const log = given ?? openLog(config.log)
  const events = new EventBus((event, error) =>
    log.error({ event, error: String(error) }, 'listener of an event failed'),
  )
  logEvents(events, log)
  const scores = Scores.load(scoreFiles(config, baseDir))
  const filters = await installFilters({ loaded, table: FILTER_TABLE, clock, log })
  const chains = new Map(
    config.listeners.map(({ name }) => [name, new FilterChain({ filters, clock, log, events }, name)]),
  )
  const spoolDir = await prepareSpool(resolve(baseDir, config.data_dir, 'spool'))
  const { destination, pool } = buildDestination(loaded, { clock, events })
  const deps: ProxyDeps = {
    hostname: config.hostname,
    limits: proxyLimits(config.limits),
    clock,
    log,
    events,
    destination,
    relay: relayPolicy(config),
    storage: { memory: config.limits.memory_per_message, spoolDir, headerSize: config.limits.header_size },
    hasRoom: roomChecker({ dir: spoolDir, reserve: config.limits.spool_reserve, clock, log }),
    chain(listener) {
      const chain = chains.get(listener)
      if (chain === undefined) throw new Error(`no listener is named ${listener}`)
      return chain
    },
    weightOf: (symbol) => scores.of(symbol),
    actions: config.actions,
    newId,
  }
  return { config, events, log, deps, pool }
}

function scoreFiles(config: Config, baseDir: string): string[] {
  const shipped = fileURLToPath(new URL('../rules/scores.yaml', import.meta.url))
  return config.rules_dir === undefined ? [shipped] : [shipped, resolve(baseDir, config.rules_dir, 'scores.yaml')]
}

function buildDestination(
  loaded: LoadedConfig,
  { clock, events }: { clock: Clock; events: EventBus },
): { destination: Destination; pool: BackendPool | undefined } {
  const { config, baseDir } = loaded
  const backend: Partial<BackendConfig> = config.backend ?? {}
  const { servers } = backend
  if (servers === undefined) {
    const path = backend.maildir?.path ?? config.maildir?.path ?? join(config.data_dir, 'mail')
    const maildir = { path: resolve(baseDir, path), hostname: config.hostname, clock }
    return { destination: new MaildirDestination(maildir), pool: undefined }
  }
  const { limits, hostname } = config
  const pool = new BackendPool({
    servers,
    hostname,
    clock,
    events,
    connectionsPerServer: backend.connections ?? 1,
    idle: backend.idle ?? 0,
    connectTimeout: limits.backend_connect,
    commandTimeout: limits.backend_command,
  })
  return { destination: new SmtpDestination({ pool, clock, events, dotTimeout: limits.backend_dot }), pool }
}

function relayPolicy(config: Config): RelayPolicy {
  return {
    domains: new Set(config.domains.map((domain) => parseDomain(domain) ?? domain.toLowerCase())),
    relayNetworks: new NetworkSet(config.relay_networks),
    exempt: new Set(config.exempt_recipients.map((entry) => entry.toLowerCase())),
  }
}

function proxyLimits(limits: Config['limits']): Limits {
  return {
    messageSize: limits.message_size,
    recipients: limits.recipients,
    unknownRecipients: limits.unknown_recipients,
    headerSize: limits.header_size,
    headerFields: limits.header_fields,
    received: limits.received,
    lineLength: limits.line_length,
    commandLine: limits.command_line,
    errorsSoft: limits.errors_soft,
    errors: limits.errors,
    junkCommands: limits.junk_commands,
    connections: limits.connections,
    connectionsPerAddress: limits.connections_per_address,
    idle: limits.idle,
    dataRate: limits.data_rate,
    dataTime: limits.data_time,
    endOfData: limits.end_of_data,
    stopGrace: limits.stop_grace,
  }
}

// A crash between opening a spool file and unlinking it leaves its name behind: the sender still has the message (P1).
async function prepareSpool(spoolDir: string): Promise<string> {
  try {
    await mkdir(spoolDir, { recursive: true, mode: 0o700 })
    for (const name of await readdir(spoolDir)) if (name.endsWith('.msg')) await unlink(join(spoolDir, name))
  } catch (error) {
    const message = `${spoolDir} cannot be used: ${error instanceof Error ? error.message : String(error)}`
    throw new ConfigError([{ path: 'data_dir', message }])
  }
  return spoolDir
}

interface RoomOptions {
  readonly dir: string
  /** Octets to keep free. */
  readonly reserve: number
  readonly clock: Clock
  readonly log: Log
}

// Asking the disk for every MAIL would be dear; two seconds of other people's mail are what the reserve is for.
function roomChecker({ dir, reserve, clock, log }: RoomOptions): (octets: number) => Promise<boolean> {
  let free = 0
  let asked = Number.NEGATIVE_INFINITY
  return async (octets) => {
    if (clock.now() - asked > ROOM_CACHE) {
      asked = clock.now()
      free = await freeSpace(dir, log)
    }
    return free - reserve >= octets
  }
}

async function freeSpace(dir: string, log: Log): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(dir)
    return bavail * bsize
  } catch (error) {
    log.error(
      { dir, error: String(error) },
      'the disk of data_dir cannot be asked for its free space: mail is deferred',
    )
    return 0
  }
}

// 32 letters that cannot be misread over the telephone (Crockford).
const LETTERS = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'

/** Twelve letters: unique enough to find a mail again among a year's, short enough to be read out. */
function newId(): string {
  let id = ''
  for (const byte of randomBytes(12)) id += LETTERS[byte & 31]
  return id
}

/** The version in package.json, which lies beside src and dist alike. */
export async function ownVersion(): Promise<string> {
  const text = await readFile(new URL('../package.json', import.meta.url), 'utf8')
  return String((JSON.parse(text) as { version: unknown }).version)
}
