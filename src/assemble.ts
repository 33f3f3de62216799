// From a configuration to the parts of a gateway: the translation of settings into what each part takes as its parameters.
// Promise: nothing listens and nothing runs yet; whatever is wrong with the configuration shows here.
import { randomBytes } from 'node:crypto'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readBackendTls, readIdentities } from './certificates.ts'
import type { LoadedConfig } from './config/load.ts'
import { ConfigError } from './config/problem.ts'
import type { BackendConfig, Config } from './config/schema.ts'
import type { HostPort } from './config/values.ts'
import type { InstalledFilter } from './filter/ask.ts'
import { FilterChain } from './filter/chain.ts'
import { installFilters, type TableEntry } from './install-filters.ts'
import { type Clock, systemClock } from './net/clock.ts'
import { isLoopback, NetworkSet } from './net/ip.ts'
import { EventBus } from './observe/events.ts'
import { type Log, logEvents, openLog } from './observe/log.ts'
import { AuthGuard } from './proxy/auth-guard.ts'
import { BackendPool } from './proxy/backend-pool.ts'
import type { Limits, ListenerOptions, ProxyDeps } from './proxy/deps.ts'
import type { Destination } from './proxy/destination.ts'
import { MaildirDestination } from './proxy/maildir-destination.ts'
import type { RelayPolicy } from './proxy/relay.ts'
import { SmtpDestination } from './proxy/smtp-destination.ts'
import { type Identities, TlsTerminator } from './proxy/tls.ts'
import { Scores } from './rules/scores.ts'
import { parseDomain } from './smtp/address.ts'
import { prepareSpool, roomChecker } from './spool.ts'

export interface AssembleOptions {
  readonly loaded: LoadedConfig
  readonly table: readonly TableEntry[]
  readonly clock?: Clock | undefined
  readonly log?: Log | undefined
  /** The bus of a gateway that runs: its listeners stay. */
  readonly events?: EventBus
}

export interface AppParts {
  readonly loaded: LoadedConfig
  /** The certificates in use; renewed while running. */
  identities: Identities | undefined
  readonly config: Config
  readonly events: EventBus
  readonly log: Log
  readonly deps: ProxyDeps
  readonly pool: BackendPool | undefined
  readonly filters: readonly InstalledFilter[]
  readonly listeners: readonly { readonly listener: ListenerOptions; readonly address: HostPort }[]
}

/** Builds everything that can fail for a reason in the configuration. Throws ConfigError or ScoresError. */
export async function assemble({
  loaded,
  table,
  clock = systemClock,
  log: given,
  events: running,
}: AssembleOptions): Promise<AppParts> {
  const { config, baseDir } = loaded
  const log = given ?? openLog(config.log)
  const events = running ?? newBus(log)
  const identities = await readIdentities(loaded)
  const listeners = buildListeners(loaded, identities)
  const scores = Scores.load(scoreFiles(config, baseDir))
  const filters = await installFilters({ loaded, table, clock, log })
  const chains = new Map(
    config.listeners.map(({ name }) => [name, new FilterChain({ filters, clock, log, events }, name)]),
  )
  const spoolDir = await prepareSpool(resolve(baseDir, config.data_dir, 'spool'))
  const { destination, pool } = await buildDestination(loaded, { clock, events })
  const deps: ProxyDeps = {
    hostname: config.hostname,
    limits: proxyLimits(config.limits),
    clock,
    log,
    events,
    destination,
    relay: relayPolicy(config),
    storage: {
      memory: config.limits.memory_per_message,
      spoolDir,
      headerSize: config.limits.header_size,
      headerFields: config.limits.header_fields,
    },
    hasRoom: roomChecker({ dir: spoolDir, reserve: config.limits.spool_reserve, clock, log }),
    chain(listener) {
      const chain = chains.get(listener)
      if (chain === undefined) throw new Error(`no listener is named ${listener}`)
      return chain
    },
    authGuard: new AuthGuard(clock, config.limits.auth_failures_per_address),
    weightOf: (symbol) => scores.of(symbol),
    actions: config.actions,
    newId,
  }
  return { loaded, identities, config, events, log, deps, pool, filters, listeners }
}

function newBus(log: Log): EventBus {
  const events = new EventBus((event, error) =>
    log.error({ event, error: String(error) }, 'listener of an event failed'),
  )
  logEvents(events, log)
  return events
}

function buildListeners(loaded: LoadedConfig, identities: Identities | undefined): AppParts['listeners'] {
  return loaded.config.listeners.map((config, i) => {
    const mode = config.tls ?? (identities === undefined ? 'off' : 'starttls')
    if (mode !== 'off' && identities === undefined) {
      throw listenerProblem(loaded, i, `${mode} needs a certificate: set tls: {certificate: …, key: …}`)
    }
    if (config.kind === 'submission' && mode === 'off')
      throw listenerProblem(loaded, i, 'a submission listener needs TLS: users log in there')
    // Each listener has contexts of its own: see proxy/tls.ts.
    const tls =
      mode === 'off' || identities === undefined ? undefined : { mode, terminator: new TlsTerminator(identities) }
    const { name, kind, address, bare_newline: bareNewline, chunking } = config
    const proxyFrom = new NetworkSet(config.proxy_protocol_from)
    const xclientFrom = new NetworkSet(config.xclient_from)
    return { listener: { name, kind, bareNewline, chunking, tls, proxyFrom, xclientFrom }, address }
  })
}

function listenerProblem(loaded: LoadedConfig, i: number, message: string): ConfigError {
  const where = loaded.where(['listeners', i, 'tls'])
  return new ConfigError([{ path: `listeners[${i}].tls`, message, ...(where === undefined ? {} : { where }) }])
}

function scoreFiles(config: Config, baseDir: string): string[] {
  const shipped = fileURLToPath(new URL('../rules/scores.yaml', import.meta.url))
  return config.rules_dir === undefined ? [shipped] : [shipped, resolve(baseDir, config.rules_dir, 'scores.yaml')]
}

async function buildDestination(
  loaded: LoadedConfig,
  { clock, events }: { clock: Clock; events: EventBus },
): Promise<{ destination: Destination; pool: BackendPool | undefined }> {
  const { config } = loaded
  const backend: Partial<BackendConfig> = config.backend ?? {}
  const { servers } = backend
  if (servers === undefined) {
    const maildir = { path: maildirPath(loaded), hostname: config.hostname, clock }
    return { destination: new MaildirDestination(maildir), pool: undefined }
  }
  const { limits, hostname } = config
  const clientAddress = backend.client_address ?? 'none'
  const tls = await readBackendTls(loaded)
  const trusted = tls.mode === 'required' || servers.every(({ host }) => isLoopback(host))
  const pool = new BackendPool({
    servers,
    hostname,
    clock,
    events,
    connectionsPerServer: backend.connections ?? 1,
    idle: backend.idle ?? 0,
    connectTimeout: limits.backend_connect,
    commandTimeout: limits.backend_command,
    clientAddress,
    tls,
  })
  return {
    destination: new SmtpDestination({ pool, clock, events, clientAddress, trusted, dotTimeout: limits.backend_dot }),
    pool,
  }
}

/** Where mail goes if no server stands behind the gateway. */
export function maildirPath({ config, baseDir }: LoadedConfig): string {
  return resolve(baseDir, config.backend?.maildir?.path ?? config.maildir?.path ?? join(config.data_dir, 'mail'))
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
    authFailures: limits.auth_failures,
  }
}

// 32 letters that cannot be misread over the telephone (Crockford).
const LETTERS = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'

const ID_LENGTH = 12
// Asking the system for random bytes is a call to it: in bulk.
let pool = Buffer.alloc(0)
let poolAt = 0

/** Twelve letters: unique enough to find a mail again among a year's, short enough to be read out. */
function newId(): string {
  if (poolAt + ID_LENGTH > pool.length) {
    pool = randomBytes(ID_LENGTH * 256)
    poolAt = 0
  }
  let id = ''
  for (const end = poolAt + ID_LENGTH; poolAt < end; poolAt++) id += LETTERS[(pool[poolAt] ?? 0) & 31]
  return id
}
