// Metrics: every event is counted where it belongs, names and units keep to the rules, and no stranger can make labels.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { EventBus, type TransactionOutcome } from '../../src/observe/events.ts'
import { createMetrics } from '../../src/observe/metrics.ts'

function metrics() {
  const events = new EventBus((_, error) => assert.fail(String(error)))
  const registry = createMetrics({
    events,
    version: '1.2.3',
    sources: {
      openSessions: () => [{ listener: 'mx', count: 3 }],
      backendConnections: () => [{ server: 'b:25', open: 2, idle: 1 }],
    },
  })
  const text = () => registry.metrics()
  const value = async (sample: string) => {
    const line = (await text()).split('\n').find((one) => one.startsWith(`${sample} `))
    return line === undefined ? undefined : Number(line.slice(sample.length + 1))
  }
  return { events, registry, text, value }
}

const TX: TransactionOutcome = {
  id: 'S1.1',
  session: 'S1',
  listener: 'mx',
  client: '192.0.2.7',
  helo: 'client.example.net',
  from: 'sender@example.net',
  recipients: [],
  size: 2000,
  messageId: undefined,
  outcome: 'delivered',
  action: 'tag',
  reason: undefined,
  reply: '250',
  backend: undefined,
  score: 5.5,
  findings: [],
  asked: [],
  milliseconds: 1500,
}

test('sessions', async () => {
  const { events, value } = metrics()
  events.emit('session-started', { id: 'S1', listener: 'mx', client: '192.0.2.7' })
  events.emit('session-refused', { listener: 'mx', client: '192.0.2.7', reason: 'connections' })
  events.emit('replied', { stage: 'RCPT', code: 550 })
  events.emit('session-ended', {
    id: 'S1',
    listener: 'mx',
    client: '192.0.2.7',
    helo: 'x',
    end: 'quit',
    commands: 1,
    errors: 0,
    transactions: 0,
    delivered: 0,
    bytesIn: 10,
    bytesOut: 20,
    milliseconds: 2000,
    asked: [],
  })
  assert.equal(await value('postern_sessions_total{listener="mx"}'), 1)
  assert.equal(await value('postern_connections_refused_total{listener="mx",reason="connections"}'), 1)
  assert.equal(await value('postern_sessions_ended_total{listener="mx",end="quit"}'), 1)
  assert.equal(await value('postern_replies_total{stage="RCPT",class="5xx"}'), 1)
  assert.equal(await value('postern_client_bytes_total{direction="in"}'), 10)
  assert.equal(await value('postern_client_bytes_total{direction="out"}'), 20)
  assert.equal(await value('postern_session_duration_seconds_sum{listener="mx"}'), 2)
  assert.equal(await value('postern_sessions_open{listener="mx"}'), 3)
})

test('transactions: a message that nobody judged has no score', async () => {
  const { events, value } = metrics()
  events.emit('transaction-ended', TX)
  events.emit('transaction-ended', { ...TX, outcome: 'reset', action: undefined, size: 0, score: 99 })
  assert.equal(await value('postern_transactions_total{listener="mx",outcome="delivered"}'), 1)
  assert.equal(await value('postern_transactions_total{listener="mx",outcome="reset"}'), 1)
  assert.equal(await value('postern_actions_total{action="tag"}'), 1)
  assert.equal(await value('postern_message_score_sum'), 5.5)
  assert.equal(await value('postern_message_score_count'), 1)
  assert.equal(await value('postern_message_size_bytes_sum'), 2000)
  assert.equal(await value('postern_message_size_bytes_count'), 1)
  assert.equal(await value('postern_transaction_duration_seconds_sum{outcome="delivered"}'), 1.5)
})

test('filters: answers, failures by kind, and the time they took', async () => {
  const { events, value } = metrics()
  const asked = { filter: 'dnsbl', stage: 'connect', milliseconds: 250, symbols: [], shadow: false } as const
  events.emit('filter-asked', { ...asked, answer: 'findings' })
  events.emit('filter-asked', { ...asked, answer: 'reject', shadow: true })
  events.emit('filter-asked', { ...asked, answer: 'failed', failure: { kind: 'timeout', message: 'x' } })
  const answers = (answer: string, mode: string) =>
    value(`postern_filter_answers_total{filter="dnsbl",stage="connect",answer="${answer}",mode="${mode}"}`)
  assert.deepEqual(
    [await answers('findings', 'enforce'), await answers('reject', 'shadow'), await answers('failed', 'enforce')],
    [1, 1, 1],
  )
  assert.equal(await value('postern_filter_failures_total{filter="dnsbl",kind="timeout"}'), 1)
  assert.equal(await value('postern_filter_duration_seconds_sum{filter="dnsbl",stage="connect"}'), 0.75)
})

test('backends: connections, replies and their time', async () => {
  const { events, value } = metrics()
  events.emit('backend-connected', { backend: 'b:25', milliseconds: 20 })
  events.emit('backend-failed', { backend: 'b:25', what: 'refused by 192.0.2.7' })
  events.emit('backend-replied', { backend: 'b:25', command: 'DOT', code: 250, milliseconds: 100 })
  assert.equal(await value('postern_backend_connects_total{backend="b:25",result="ok"}'), 1)
  assert.equal(await value('postern_backend_connects_total{backend="b:25",result="failed"}'), 1)
  assert.equal(await value('postern_backend_replies_total{backend="b:25",command="DOT",class="2xx"}'), 1)
  assert.equal(await value('postern_backend_command_duration_seconds_sum{backend="b:25",command="DOT"}'), 0.1)
  assert.equal(await value('postern_backend_connections{backend="b:25",state="open"}'), 2)
  assert.equal(await value('postern_backend_connections{backend="b:25",state="idle"}'), 1)
})

test('the version stands in build_info', async () => {
  const { value } = metrics()
  assert.equal(await value(`postern_build_info{version="1.2.3",node="${process.version}"}`), 1)
})

test('every name has the prefix, every metric a help text, units are base units', async () => {
  const { registry } = metrics()
  for (const { name, help, type } of await registry.getMetricsAsJSON()) {
    assert.match(name, /^postern_[a-z][a-z0-9_]*$/)
    assert.ok(help.length > 5, name)
    assert.doesNotMatch(name, /milliseconds|_ms$|_kb$|minutes/, name)
    if (String(type) === 'counter') assert.match(name, /_total$/)
  }
})

test('what strangers choose never becomes a label', async () => {
  const { events, text } = metrics()
  const marker = 'stranger'
  events.emit('session-started', { id: marker, listener: 'mx', client: marker })
  events.emit('session-refused', { listener: 'mx', client: marker, reason: 'connections' })
  events.emit('transaction-ended', {
    ...TX,
    id: marker,
    session: marker,
    client: marker,
    helo: marker,
    from: marker,
    recipients: [{ address: marker, reply: marker }],
    messageId: marker,
    reason: marker,
    reply: marker,
    backend: { name: 'b:25', reply: marker },
    findings: [{ symbol: 'A', score: 1, source: marker, filter: 'f', detail: marker }],
  })
  events.emit('filter-asked', {
    filter: 'f',
    stage: 'rcpt',
    answer: 'reject',
    milliseconds: 1,
    symbols: ['A'],
    shadow: false,
    reason: marker,
    recipient: marker,
    failure: { kind: 'threw', message: marker },
  })
  events.emit('backend-failed', { backend: 'b:25', what: marker })
  assert.doesNotMatch(await text(), new RegExp(marker))
})

test('two registries share nothing', async () => {
  const [one, two] = [metrics(), metrics()]
  one.events.emit('session-started', { id: 'S1', listener: 'mx', client: 'c' })
  assert.equal(await two.value('postern_sessions_total{listener="mx"}'), undefined)
})
