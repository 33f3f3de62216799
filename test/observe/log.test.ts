// P10: what strangers wrote reaches the log escaped and capped; every session and transaction is one line.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { promisify } from 'node:util'
import fc from 'fast-check'
import { EventBus, type SessionOutcome, type TransactionOutcome } from '../../src/observe/events.ts'
import { cleanText, logEvents } from '../../src/observe/log.ts'
import { FakeLog } from '../support/fake-log.ts'

// What acts on a terminal, on a reader of lines, or on the order in which text is shown: controls, separators, marks and overrides.
const ACTIVE = /[\p{Cc}\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u

for (const [name, text, expected] of [
  ['plain text', 'hello, wörld', 'hello, wörld'],
  ['line ends', 'a\r\nb\nc', 'a\\x0d\\x0ab\\x0ac'],
  ['a colour', '\x1b[31mred', '\\x1b[31mred'],
  ['a bell, a backspace, a NUL, DEL', '\x07\x08\0\x7f', '\\x07\\x08\\x00\\x7f'],
  ['C1 controls', '\x85\x9b31m', '\\x85\\x9b31m'],
  ['line separators of Unicode', 'a\u2028b\u2029c', 'a\\u{2028}b\\u{2029}c'],
  ['bidi overrides', 'a\u202eb\u2066c\u2069', 'a\\u{202e}b\\u{2066}c\\u{2069}'],
  ['bidi marks', 'a\u200eb\u200fc\u061c', 'a\\u{200e}b\\u{200f}c\\u{61c}'],
] as const) {
  test(`${name}`, () => assert.equal(cleanText(text), expected))
}

test('nothing active ever gets through, whatever comes', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 50 }), (text) => assert.doesNotMatch(cleanText(text), ACTIVE)),
    { numRuns: 500 },
  )
  for (let code = 0; code < 0x3000; code++) assert.doesNotMatch(cleanText(String.fromCharCode(code)), ACTIVE)
})

test('a long text is cut, whatever it is made of', () => {
  assert.equal(cleanText('x'.repeat(5000)).length, 1001)
  assert.ok(cleanText('\u2028'.repeat(5000)).length <= 8001)
  assert.equal(cleanText('x'.repeat(1000)).length, 1000)
})

const LOG = new URL('../../src/observe/log.ts', import.meta.url).href

/** What a process of its own writes to standard error. */
async function written(format: string, body: string): Promise<string> {
  const program = `
    const { openLog } = await import(${JSON.stringify(LOG)})
    const log = openLog({ level: 'info', format: ${JSON.stringify(format)} })
    ${body}
  `
  const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', program])
  assert.equal(stdout, '')
  return stderr
}

const HOSTILE = `log.info(
  { from: 'a\\u001b[2J\\r\\n{"level":"error"}', list: ['\\u2028', { deep: '\\u202e' }], ['k\\ney']: 1, n: 7, u: undefined },
  'a text',
)`

test('a line of JSON is one line, its values clean, its keys as well', async () => {
  const text = await written('json', HOSTILE)
  assert.equal(text.split('\n').length, 2)
  assert.doesNotMatch(text.trimEnd(), ACTIVE)
  const line: Record<string, unknown> = JSON.parse(text)
  assert.equal(line.from, 'a\\x1b[2J\\x0d\\x0a{"level":"error"}')
  assert.deepEqual(line.list, ['\\u{2028}', { deep: '\\u{202e}' }])
  assert.deepEqual([line.level, line.msg, line.n, line['k\\x0aey']], ['info', 'a text', 7, 1])
  assert.match(String(line.time), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/)
  assert.equal(typeof line.pid, 'number')
})

test('the readable form shows no stranger’s controls either', async () => {
  const text = await written('pretty', HOSTILE)
  assert.match(text, /a text/)
  assert.match(text, /\\+x1b\[2J/)
  assert.doesNotMatch(text.replaceAll('\n', ''), ACTIVE)
})

test('below its level nothing is written; lists are cut', async () => {
  const text = await written(
    'json',
    "log.debug({}, 'no'); log.warn({ list: Array.from({ length: 500 }, String) }, 'yes')",
  )
  const line: { msg: string; level: string; list: unknown[] } = JSON.parse(text)
  assert.deepEqual([line.msg, line.level, line.list.length], ['yes', 'warn', 100])
})

const SESSION: SessionOutcome = {
  id: 'S1',
  listener: 'mx',
  client: '192.0.2.7',
  helo: 'client.example.net',
  end: 'quit',
  commands: 5,
  errors: 0,
  transactions: 1,
  delivered: 1,
  bytesIn: 10,
  bytesOut: 20,
  milliseconds: 12.4,
  asked: [],
}

const TRANSACTION: TransactionOutcome = {
  id: 'S1.1',
  session: 'S1',
  listener: 'mx',
  client: '192.0.2.7',
  helo: 'client.example.net',
  from: 'sender@example.net',
  recipients: [
    { address: 'user@example.org', reply: '250 2.1.5 Ok' },
    { address: 'nobody@example.org', reply: '550 5.1.1 unknown' },
  ],
  size: 100,
  messageId: '<a@example.net>',
  outcome: 'delivered',
  action: 'tag',
  reason: undefined,
  reply: '250 2.0.0 taken',
  backend: { name: '192.0.2.25:25', reply: '250 2.0.0 taken' },
  score: 5.5,
  findings: [{ symbol: 'A', score: 5.5, source: 'scores.yaml:1', filter: 'f' }],
  asked: [],
  milliseconds: 33.6,
}

function logged(emit: (events: EventBus) => void): FakeLog {
  const log = new FakeLog()
  const events = new EventBus((_, error) => assert.fail(String(error)))
  logEvents(events, log)
  emit(events)
  return log
}

test('a session is one line under its id', () => {
  const { entries } = logged((events) => events.emit('session-ended', SESSION))
  assert.equal(entries.length, 1)
  assert.equal(entries[0]?.text, 'session end=quit')
  const { session, client, helo, milliseconds } = entries[0].fields
  assert.deepEqual([session, client, helo, milliseconds], ['S1', '192.0.2.7', 'client.example.net', 12])
})

test('a transaction is one line with who wrote to whom, what became of it, and why', () => {
  const { entries } = logged((events) => events.emit('transaction-ended', TRANSACTION))
  assert.equal(entries.length, 1)
  assert.deepEqual([entries[0]?.level, entries[0]?.text], ['info', 'transaction outcome=delivered'])
  const { id, session, from, to, refused, outcome, action, score, symbols } = entries[0]?.fields ?? {}
  assert.deepEqual([id, session, from], ['S1.1', 'S1', 'sender@example.net'])
  assert.deepEqual(to, ['user@example.org', 'nobody@example.org'])
  assert.deepEqual(refused, ['nobody@example.org: 550 5.1.1 unknown'])
  assert.deepEqual([outcome, action, score, symbols], ['delivered', 'tag', 5.5, ['A']])
})

test('what an operator should look at is a warning', () => {
  for (const outcome of ['unknown', 'backend-lost'] as const) {
    const log = logged((events) => events.emit('transaction-ended', { ...TRANSACTION, outcome }))
    assert.deepEqual(log.texts('warn'), [`transaction outcome=${outcome}`])
  }
  const log = logged((events) => {
    events.emit('backend-failed', { backend: 'b', what: 'refused' })
    events.emit('backend-waiting', { backend: 'b', transaction: 'S1.1', milliseconds: 60_000 })
  })
  assert.equal(log.texts('warn').length, 2)
})
