// The chain: the order of the table decides (P7), trust and verdicts end the matter, failures are passed over.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { InstalledFilter } from '../../src/filter/ask.ts'
import { FilterChain, factDefects, type StageResult } from '../../src/filter/chain.ts'
import { FactBoard } from '../../src/filter/context.ts'
import type { Opinion, Verdict } from '../../src/filter/filter.ts'
import { EventBus } from '../../src/observe/events.ts'
import { FakeLog } from '../support/fake-log.ts'
import { bench, both, fact, found, installed, says, session, symbols, transaction } from '../support/filters.ts'

const reject: Verdict = { kind: 'reject', reason: 'no' }
const trust: Verdict = { kind: 'trust', reason: 'known' }

for (const stage of ['mail', 'data'] as const) {
  test(`${stage}: findings and headers come in the order of the table`, async () => {
    const headers = [{ name: 'X-A', value: '1' }]
    const result = await bench([says('a', { ...found('A'), headers }), says('b', {}), says('c', found('C'))])[stage]()
    assert.deepEqual(symbols(result), ['A', 'C'])
    assert.deepEqual(
      result.found.map((f) => f.filter),
      ['a', 'c'],
    )
    assert.deepEqual([result.headers, result.decided, result.trusted], [headers, undefined, false])
    assert.deepEqual(
      result.asked.map((a) => a.answer),
      ['findings', 'nothing', 'findings'],
    )
  })

  test(`${stage}: of two verdicts the upper one counts, and nothing below it`, async () => {
    const filters = [
      says('a', found('A')),
      says('b', { verdict: reject }),
      says('c', { ...found('C'), verdict: trust }),
    ]
    const { chain: _, ...rig } = bench(filters)
    const result = await rig[stage]()
    assert.deepEqual(result.decided, { filter: 'b', stage, verdict: reject })
    assert.deepEqual(symbols(result), ['A'])
    // Who was asked beside them stands in the record, without effect.
    assert.equal(rig.asked.length, stage === 'mail' ? 3 : 2)
  })

  test(`${stage}: after a trust only those marked always count`, async () => {
    const filters = [
      says('a', { verdict: trust }),
      says('b', { verdict: reject }),
      says('c', found('C'), { always: true }),
    ]
    const result = await bench(filters)[stage]()
    assert.deepEqual([symbols(result), result.decided, result.trusted], [['C'], undefined, true])
  })

  test(`${stage}: one that runs always may refuse the trusted`, async () => {
    const filters = [says('a', { verdict: trust }), says('b', { verdict: reject }, { always: true })]
    assert.equal((await bench(filters)[stage]()).decided?.filter, 'b')
  })

  test(`${stage}: who was trusted before is asked about by nobody else, and stays trusted`, async () => {
    let calls = 0
    const counting = installed(
      'a',
      both(() => {
        calls++
        return { verdict: reject }
      }),
    )
    const result = await bench([counting, says('b', found('B'), { always: true })])[stage]({ trusted: true })
    assert.deepEqual([calls, symbols(result), result.trusted, result.decided], [0, ['B'], true, undefined])
    const empty = await bench([])[stage]({ trusted: true })
    assert.equal(empty.trusted, true)
  })

  test(`${stage}: a trust in shadow mode trusts nobody, and a reject refuses nobody`, async () => {
    const filters = [
      says('a', { verdict: trust }, { mode: 'shadow' }),
      says('b', { ...found('B'), verdict: reject }, { mode: 'shadow' }),
      says('c', found('C')),
    ]
    const { chain: _, ...rig } = bench(filters)
    const result = await rig[stage]()
    assert.deepEqual([symbols(result), result.decided, result.trusted], [['C'], undefined, false])
    assert.deepEqual(
      rig.asked.map((a) => [a.filter, a.answer, a.shadow]),
      [
        ['a', 'trust', true],
        ['b', 'reject', true],
        ['c', 'findings', false],
      ],
    )
  })

  test(`${stage}: a failure is counted, logged and passed over`, async () => {
    const broken = installed(
      'broken',
      both(() => assert.fail('away')),
    )
    const { chain: _, ...rig } = bench([broken, says('b', found('B'))])
    const result = await rig[stage]()
    assert.deepEqual([symbols(result), result.decided], [['BROKEN_UNAVAILABLE', 'B'], undefined])
    assert.deepEqual(rig.log.entries, [
      {
        level: 'warn',
        fields: { filter: 'broken', stage, failure: 'threw', error: 'away' },
        text: 'filter unavailable',
      },
    ])
    assert.equal(rig.asked[0]?.failure?.kind, 'threw')
  })

  test(`${stage}: no failure ever refuses for good`, async () => {
    const failing: readonly (() => Promise<never>)[] = [
      () => assert.fail('away'),
      () => 'nonsense' as never,
      () => Promise.reject(new Error('away')),
    ]
    for (const [i, fails] of failing.entries()) {
      const filters: readonly InstalledFilter[] = [
        installed(`f${i}`, both(fails), { onFailure: 'defer' }),
        says('b', { verdict: reject }),
      ]
      const { decided }: StageResult = await bench(filters)[stage]()
      assert.deepEqual([decided?.filter, decided?.verdict.kind], [`f${i}`, 'defer'])
    }
  })
}

test('side by side: all are asked at once, and nobody waits for those below a verdict', async () => {
  const signals: AbortSignal[] = []
  const hanging = installed(
    'hanging',
    both((io) => {
      signals.push(io.signal)
      return new Promise(() => {})
    }),
  )
  const { chain: _, ...rig } = bench([says('a', { verdict: reject }), hanging])
  const result = await rig.mail()
  assert.equal(result.decided?.filter, 'a')
  assert.equal(signals[0]?.aborted, true)
  assert.deepEqual(
    result.asked.map((a) => [a.filter, a.answer]),
    [
      ['a', 'reject'],
      ['hanging', 'cancelled'],
    ],
  )
  assert.equal(rig.clock.pending, 0)
})

test('one after the other: who stands below a verdict is not asked', async () => {
  let calls = 0
  const counting = installed(
    'b',
    both(() => {
      calls++
      return undefined
    }),
  )
  await bench([says('a', { verdict: reject }), counting]).data()
  assert.equal(calls, 0)
})

test('a stage with many filters leaves no warning of listeners behind', async (t) => {
  const warned = t.mock.fn()
  process.on('warning', warned)
  t.after(() => process.off('warning', warned))
  const filters = Array.from({ length: 30 }, (_, i) =>
    installed(
      `f${i}`,
      both(async () => found('A')),
    ),
  )
  await bench(filters).mail()
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(warned.mock.callCount(), 0)
})

test('a filter runs on the listeners that it is given', async () => {
  const filters = [
    says('everywhere', found('A')),
    says('elsewhere', found('B'), { listeners: new Set(['submission']) }),
  ]
  assert.deepEqual(symbols(await bench(filters, 'mx').mail()), ['A'])
  assert.deepEqual(symbols(await bench(filters, 'submission').mail()), ['A', 'B'])
})

test('connect: the greeting waits for those that hold it, the result for all', async () => {
  const wait = (milliseconds: number) => ({
    connect: () =>
      new Promise<Opinion>((resolve) => {
        rig.clock.timer(milliseconds, () => resolve(found('A')))
      }),
  })
  const rig = bench([installed('holder', wait(100), { holdsGreeting: true }), installed('slow', wait(300))])
  assert.equal(rig.chain.holdsGreeting, true)
  const { result, greeting } = rig.chain.connect(session, new FactBoard(), rig.log)
  const events: string[] = []
  greeting.then(() => events.push('greeting'))
  result.then(() => events.push('result'))
  await rig.clock.advance(100)
  assert.deepEqual(events, ['greeting'])
  await rig.clock.advance(200)
  assert.deepEqual(events, ['greeting', 'result'])
})

test('connect: a greeting that nobody holds does not wait', async () => {
  const rig = bench([installed('slow', { connect: () => new Promise(() => {}) })])
  assert.equal(rig.chain.holdsGreeting, false)
  await rig.chain.connect(session, new FactBoard(), rig.log).greeting
})

test('rcpt: the recipient stands with every answer', async () => {
  const rig = bench([installed('a', { rcpt: () => found('A') })])
  const address = { localPart: 'user', domain: 'example.org', utf8: false, routing: false }
  const context = { log: rig.log, trusted: false, rcpt: { address } }
  const result = await rig.chain.rcpt(transaction, rig.facts, context)
  assert.equal(result.asked[0]?.recipient, 'user@example.org')
})

test('those that are told are told one by one: one that throws is logged and keeps nobody else from it', () => {
  const told: string[] = []
  const rig = bench([
    installed('broken', { ended: () => assert.fail('away'), recipientAnswered: () => assert.fail('away') }),
    installed('well', { ended: () => void told.push('ended'), recipientAnswered: () => void told.push('answered') }),
  ])
  const address = { localPart: 'user', domain: 'example.org', utf8: false, routing: false }
  rig.chain.recipientAnswered(transaction, { address }, { code: 250, lines: [''] })
  rig.chain.ended(transaction, {} as never)
  assert.deepEqual(told, ['answered', 'ended'])
  assert.deepEqual(rig.log.texts('warn'), ['filter threw in recipientAnswered', 'filter threw in ended'])
})

test('one that is told and answers by a promise may reject without harm', async (t) => {
  const unhandled = t.mock.fn()
  process.on('unhandledRejection', unhandled)
  t.after(() => process.off('unhandledRejection', unhandled))
  const ended = (async () => assert.fail('away')) as () => void
  const rig = bench([installed('async', { ended, recipientAnswered: ended })])
  rig.chain.ended(transaction, {} as never)
  rig.chain.recipientAnswered(transaction, {} as never, { code: 250, lines: [] })
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(unhandled.mock.callCount(), 0)
  assert.deepEqual(rig.log.texts('warn'), ['filter threw in ended', 'filter threw in recipientAnswered'])
})

test('a metric that throws hurts no mail', async () => {
  const errors: unknown[] = []
  const events = new EventBus((_, error) => errors.push(error))
  events.on('filter-asked', () => assert.fail('no metric'))
  const { clock } = bench([])
  const chain = new FilterChain({ filters: [says('a', found('A'))], clock, log: new FakeLog(), events }, 'mx')
  const result = await chain.data(transaction, new FactBoard(), { log: new FakeLog(), trusted: false })
  assert.deepEqual([symbols(result), errors.length], [['A'], 1])
})

const table = (name: string, reads: readonly string[], writes: readonly string[]) => ({
  name,
  reads: reads.map(fact),
  writes: writes.map(fact),
})

test('a table whose facts stand in order has no defects', () => {
  assert.deepEqual(factDefects([table('a', [], ['x']), table('b', ['x'], ['y']), table('c', ['x', 'y'], [])]), [])
  assert.deepEqual(factDefects([table('a', ['earlyTalker'], [])]), [])
})

test('a reader before its writer, a fact without a writer and two writers are told', () => {
  assert.deepEqual(factDefects([table('a', ['x', 'y'], []), table('b', [], ['x'])]), [
    "a reads the fact 'x', which b writes after it",
    "a reads the fact 'y', which no filter writes",
  ])
  assert.deepEqual(factDefects([table('a', [], ['x']), table('b', [], ['x', 'earlyTalker'])]), [
    "b writes the fact 'x', which a writes already",
    "b writes the fact 'earlyTalker', which the session writes already",
  ])
  assert.deepEqual(factDefects([table('a', ['x'], ['x'])]), ["a reads the fact 'x', which a writes after it"])
})
