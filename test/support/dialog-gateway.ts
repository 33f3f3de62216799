// The gateway of a dialogue: the real session, chain, pool and destination, on a fake clock, without a socket.
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { loadConfig } from '../../src/config/load.ts'
import { FilterChain } from '../../src/filter/chain.ts'
import { defineFilter, type Filter, type FilterIo, type Opinion } from '../../src/filter/filter.ts'
import { networks } from '../../src/filters/networks.ts'
import { type AnyFilterDefinition, installFilters } from '../../src/install-filters.ts'
import { NetworkSet } from '../../src/net/ip.ts'
import {
  EventBus,
  type EventMap,
  type EventName,
  type SessionOutcome,
  type TransactionOutcome,
} from '../../src/observe/events.ts'
import { AuthGuard } from '../../src/proxy/auth-guard.ts'
import { BackendPool } from '../../src/proxy/backend-pool.ts'
import type { Limits, ListenerOptions, ProxyDeps } from '../../src/proxy/deps.ts'
import { SmtpDestination } from '../../src/proxy/smtp-destination.ts'
import type { Script } from './dialog-script.ts'
import { FakeClock } from './fake-clock.ts'
import { FakeLog } from './fake-log.ts'

export interface Gateway {
  readonly deps: ProxyDeps
  readonly listener: ListenerOptions
  readonly clock: FakeClock
  readonly log: FakeLog
  readonly pool: BackendPool
  readonly sessions: SessionOutcome[]
  readonly transactions: TransactionOutcome[]
  /** Every event with its name. */
  readonly events: readonly unknown[]
  readonly spoolDir: string
}

class KeepingBus extends EventBus {
  readonly kept: unknown[] = []

  override emit<K extends EventName>(name: K, event: EventMap[K]): void {
    this.kept.push({ name, event })
    super.emit(name, event)
  }
}

const DEFAULTS = ['hostname: mx.example.org', 'domains: [example.org]', 'backend: {servers: ["192.0.2.25:25"]}']

export async function buildGateway(script: Script, dial: () => Duplex): Promise<Gateway> {
  const defaults = DEFAULTS.filter((line) => !script.yaml.includes(`\n${line.split(':')[0]}:`))
  const text = `${defaults.join('\n')}\n${script.yaml}\n`
  const loaded = loadConfig({ text, path: script.file, env: {} })
  const { config } = loaded
  const [clock, log] = [new FakeClock(), new FakeLog()]
  const events = new KeepingBus((event, error) => log.error({ event, error: String(error) }, 'listener failed'))
  const sessions: SessionOutcome[] = []
  const transactions: TransactionOutcome[] = []
  events.on('session-ended', (session) => sessions.push(session))
  events.on('transaction-ended', (tx) => transactions.push(tx))
  const table = [networks as AnyFilterDefinition, ...scriptedFilters(script, clock)]
  const filters = await installFilters({
    loaded,
    table: table.map((definition) => ({ definition, enabled: true })),
    clock,
    log,
  })
  const { limits } = config
  const clientAddress = config.backend?.client_address ?? 'auto'
  const pool = new BackendPool({
    servers: config.backend?.servers ?? [],
    hostname: config.hostname,
    clock,
    events,
    connectionsPerServer: config.backend?.connections ?? 1,
    idle: config.backend?.idle ?? 0,
    connectTimeout: limits.backend_connect,
    commandTimeout: limits.backend_command,
    clientAddress,
    tls: { mode: 'off', ca: undefined, fingerprints: [] },
    dial,
  })
  const weights = new Map(of(script, 'weight').map(({ words: [symbol = '', score] }) => [symbol, Number(score)]))
  const room = Number(of(script, 'room')[0]?.text ?? Number.POSITIVE_INFINITY)
  const spoolDir = mkdtempSync(join(tmpdir(), 'postern-dialog-'))
  let ids = 0
  const deps: ProxyDeps = {
    hostname: config.hostname,
    limits: camelCase(limits) as unknown as Limits,
    clock,
    log,
    events,
    destination: new SmtpDestination({
      pool,
      clock,
      events,
      clientAddress,
      trusted: true,
      dotTimeout: limits.backend_dot,
    }),
    relay: {
      domains: new Set(config.domains),
      relayNetworks: new NetworkSet(config.relay_networks),
      exempt: new Set(config.exempt_recipients),
    },
    storage: {
      memory: limits.memory_per_message,
      headerSize: limits.header_size,
      headerFields: limits.header_fields,
      spoolDir: of(script, 'spool')[0]?.text === 'broken' ? join(spoolDir, 'missing') : spoolDir,
    },
    hasRoom: async (octets) => octets <= room,
    chain: (listener) => new FilterChain({ filters, clock, log, events }, listener),
    weightOf: (symbol) => ({ score: weights.get(symbol) ?? 0, source: 'the dialogue' }),
    authGuard: new AuthGuard(clock, limits.auth_failures_per_address),
    actions: config.actions,
    newId: () => `S${++ids}`,
  }
  const { bare_newline: bareNewline = 'normalize', chunking = true, xclient_from = [] } = config.listeners[0] ?? {}
  const kind = of(script, 'submission').length > 0 ? 'submission' : 'mx'
  const listener: ListenerOptions = {
    name: kind,
    kind,
    bareNewline,
    chunking,
    tls: undefined,
    proxyFrom: new NetworkSet([]),
    xclientFrom: new NetworkSet(xclient_from),
  }
  return { deps, listener, clock, log, pool, sessions, transactions, events: events.kept, spoolDir }
}

export function of(script: Script, name: string): Script['settings'] {
  return script.settings.filter((setting) => setting.name === name)
}

function camelCase(limits: object): object {
  return Object.fromEntries(
    Object.entries(limits).map(([key, value]) => [key.replace(/_(.)/g, (_, c: string) => c.toUpperCase()), value]),
  )
}

type Ask = (io: FilterIo) => Promise<Opinion | undefined>

function scriptedFilters(script: Script, clock: FakeClock): AnyFilterDefinition[] {
  const byName = new Map<string, Map<string, Ask>>()
  for (const { words } of of(script, 'filter')) {
    const [name = '', stage = '', ...answer] = words
    const stages = byName.get(name) ?? new Map<string, Ask>()
    stages.set(stage, asker(answer, clock))
    byName.set(name, stages)
  }
  return [...byName].map(([name, stages]) => {
    const filter: Filter = Object.fromEntries(
      [...stages].map(([stage, ask]) => [stage, (...given: unknown[]) => ask(given.at(-1) as FilterIo)]),
    )
    return defineFilter({ name, create: () => filter })
  })
}

function asker([what = '', ...rest]: readonly string[], clock: FakeClock): Ask {
  switch (what) {
    case 'reject':
    case 'defer':
    case 'hangup':
    case 'trust':
      return async () => ({ verdict: { kind: what, reason: 'the dialogue says so' } })
    case 'throw':
      return async () => {
        throw new Error('the dialogue says so')
      }
    case 'hang':
      return () => new Promise(() => {})
    case 'after': {
      const [time = '', symbol = ''] = rest
      return (io) =>
        new Promise((resolve) => {
          clock.timer(milliseconds(time), () => resolve(io.signal.aborted ? undefined : { findings: [{ symbol }] }))
        })
    }
    default:
      return async () => ({ findings: [{ symbol: what }] })
  }
}

/** `300s`, `5m`, `250ms`. */
export function milliseconds(text: string): number {
  const match = /^(\d+)(ms|s|m|h)$/.exec(text)
  if (match === null) throw new Error(`no time: ${text}`)
  const unit = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[match[2] ?? ''] ?? Number.NaN
  return Number(match[1]) * unit
}
