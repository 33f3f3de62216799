// Every metric, declared once with its help text and labels, and filled from events.
// Promise: label values come from bounded sets only (listeners, verbs, filters, servers of the configuration): never an address, a domain
// or a client, which would let strangers grow our memory.
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { EventBus } from './events.ts'

const PREFIX = 'postern_'
const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]
const OCTETS = [1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864]

/** State that is read when somebody asks for it. */
export interface MetricSources {
  openSessions(): readonly { readonly listener: string; readonly count: number }[]
  backendConnections(): readonly { readonly server: string; readonly open: number; readonly idle: number }[]
}

export interface MetricOptions {
  readonly events: EventBus
  readonly sources: MetricSources
  readonly version: string
}

/** Declares all metrics in a registry of their own and listens to the events that fill them. */
export function createMetrics({ events, sources, version }: MetricOptions): Registry {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry, prefix: PREFIX })
  sessionMetrics(registry, events, sources)
  transactionMetrics(registry, events)
  filterMetrics(registry, events)
  backendMetrics(registry, events, sources)
  const reloads = counter(registry, 'config_reloads_total', 'Configurations read while running', ['result'])
  events.on('config-reloaded', ({ result }) => reloads.inc({ result }))
  const build = gauge(registry, 'build_info', 'Version of Postern and Node.js; always 1', ['version', 'node'])
  build.set({ version, node: process.version }, 1)
  return registry
}

function counter<L extends string>(
  registry: Registry,
  name: string,
  help: string,
  labelNames: readonly L[],
): Counter<L> {
  return new Counter({ name: PREFIX + name, help, labelNames: [...labelNames], registers: [registry] })
}

function gauge<L extends string>(registry: Registry, name: string, help: string, labelNames: readonly L[]): Gauge<L> {
  return new Gauge({ name: PREFIX + name, help, labelNames: [...labelNames], registers: [registry] })
}

interface HistogramSpec<L extends string> {
  readonly name: string
  readonly help: string
  readonly labelNames: readonly L[]
  readonly buckets: readonly number[]
}

function histogram<L extends string>(registry: Registry, spec: HistogramSpec<L>): Histogram<L> {
  const { name, help, labelNames, buckets } = spec
  return new Histogram({
    name: PREFIX + name,
    help,
    labelNames: [...labelNames],
    buckets: [...buckets],
    registers: [registry],
  })
}

function sessionMetrics(registry: Registry, events: EventBus, sources: MetricSources): void {
  const started = counter(registry, 'sessions_total', 'Sessions begun', ['listener'])
  const refused = counter(registry, 'connections_refused_total', 'Connections turned away by a cap', [
    'listener',
    'reason',
  ])
  const ended = counter(registry, 'sessions_ended_total', 'Sessions ended, by how they ended', ['listener', 'end'])
  const bytes = counter(registry, 'client_bytes_total', 'Octets from and to clients', ['direction'])
  const replies = counter(registry, 'replies_total', 'Replies to clients, by command and class of the code', [
    'stage',
    'class',
  ])
  const handshakes = counter(registry, 'tls_handshakes_total', 'TLS handshakes with clients', [
    'listener',
    'result',
    'protocol',
  ])
  const length = histogram(registry, {
    name: 'session_duration_seconds',
    help: 'Length of sessions',
    labelNames: ['listener'],
    buckets: SECONDS,
  })
  new Gauge({
    name: `${PREFIX}sessions_open`,
    help: 'Sessions open now',
    labelNames: ['listener'],
    registers: [registry],
    collect() {
      for (const { listener, count } of sources.openSessions()) this.set({ listener }, count)
    },
  })
  events.on('session-started', ({ listener }) => started.inc({ listener }))
  events.on('session-refused', ({ listener, reason }) => refused.inc({ listener, reason }))
  const logins = counter(registry, 'logins_total', 'Logins on submission listeners', ['listener', 'result'])
  events.on('login', ({ listener, result }) => logins.inc({ listener, result }))
  events.on('tls-handshake', (handshake) => handshakes.inc({ ...handshake }))
  events.on('replied', ({ stage, code }) => replies.inc({ stage, class: `${Math.trunc(code / 100)}xx` }))
  events.on('session-ended', (session) => {
    ended.inc({ listener: session.listener, end: session.end })
    length.observe({ listener: session.listener }, session.milliseconds / 1000)
    bytes.inc({ direction: 'in' }, session.bytesIn)
    bytes.inc({ direction: 'out' }, session.bytesOut)
  })
}

function transactionMetrics(registry: Registry, events: EventBus): void {
  const ended = counter(registry, 'transactions_total', 'Transactions, by outcome', ['listener', 'outcome'])
  const actions = counter(registry, 'actions_total', 'Judged messages, by action', ['action'])
  const duration = histogram(registry, {
    name: 'transaction_duration_seconds',
    help: 'From MAIL to the last reply',
    labelNames: ['outcome'],
    buckets: SECONDS,
  })
  const size = histogram(registry, {
    name: 'message_size_bytes',
    help: 'Size of messages',
    labelNames: [],
    buckets: OCTETS,
  })
  const score = histogram(registry, {
    name: 'message_score',
    help: 'Score of judged messages',
    labelNames: [],
    buckets: [-10, -5, -2, 0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30],
  })
  events.on('transaction-ended', (tx) => {
    ended.inc({ listener: tx.listener, outcome: tx.outcome })
    duration.observe({ outcome: tx.outcome }, tx.milliseconds / 1000)
    if (tx.size > 0) size.observe(tx.size)
    if (tx.action === undefined) return
    actions.inc({ action: tx.action })
    score.observe(tx.score)
  })
}

function filterMetrics(registry: Registry, events: EventBus): void {
  const answers = counter(registry, 'filter_answers_total', 'Answers of filters', ['filter', 'stage', 'answer', 'mode'])
  const failures = counter(registry, 'filter_failures_total', 'Failures of filters', ['filter', 'kind'])
  const duration = histogram(registry, {
    name: 'filter_duration_seconds',
    help: 'How long a filter took to answer',
    labelNames: ['filter', 'stage'],
    buckets: SECONDS,
  })
  events.on('filter-asked', (asked) => {
    const { filter, stage, answer } = asked
    answers.inc({ filter, stage, answer, mode: asked.shadow ? 'shadow' : 'enforce' })
    duration.observe({ filter, stage }, asked.milliseconds / 1000)
    if (asked.failure !== undefined) failures.inc({ filter, kind: asked.failure.kind })
  })
}

function backendMetrics(registry: Registry, events: EventBus, sources: MetricSources): void {
  const connected = counter(registry, 'backend_connects_total', 'Connections made to a backend', ['backend', 'result'])
  const replies = counter(registry, 'backend_replies_total', 'Replies of a backend', ['backend', 'command', 'class'])
  const connecting = histogram(registry, {
    name: 'backend_connect_duration_seconds',
    help: 'From connecting to the answer to EHLO',
    labelNames: ['backend'],
    buckets: SECONDS,
  })
  const duration = histogram(registry, {
    name: 'backend_command_duration_seconds',
    help: 'How long a backend took to answer; DOT is the end of data',
    labelNames: ['backend', 'command'],
    buckets: SECONDS,
  })
  new Gauge({
    name: `${PREFIX}backend_connections`,
    help: 'Connections to a backend: all, and unused ones among them',
    labelNames: ['backend', 'state'],
    registers: [registry],
    collect() {
      for (const { server, open, idle } of sources.backendConnections()) {
        this.set({ backend: server, state: 'open' }, open)
        this.set({ backend: server, state: 'idle' }, idle)
      }
    },
  })
  events.on('backend-connected', ({ backend, milliseconds }) => {
    connected.inc({ backend, result: 'ok' })
    connecting.observe({ backend }, milliseconds / 1000)
  })
  events.on('backend-failed', ({ backend }) => connected.inc({ backend, result: 'failed' }))
  events.on('backend-replied', ({ backend, command, code, milliseconds }) => {
    replies.inc({ backend, command, class: `${Math.trunc(code / 100)}xx` })
    duration.observe({ backend, command }, milliseconds / 1000)
  })
}
