// P6: whatever a filter does, exactly one answer comes back, in bounded time, and no failure is silent or a 5xx.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Answered, ask, type InstalledFilter } from '../../src/filter/ask.ts'
import { FactBoard } from '../../src/filter/context.ts'
import type { Answer, FilterIo, Opinion } from '../../src/filter/filter.ts'
import { FakeClock, settle } from '../support/fake-clock.ts'
import { FakeLog } from '../support/fake-log.ts'
import { fact, installed } from '../support/filters.ts'

interface Asked {
  readonly answered: Promise<Answered>
  readonly clock: FakeClock
  readonly facts: FactBoard
  readonly cancel: AbortController
}

function asking(call: (io: FilterIo) => unknown, settings: Partial<InstalledFilter> = {}, deadline?: number): Asked {
  const [clock, facts, cancel] = [new FakeClock(), new FactBoard(), new AbortController()]
  const question = {
    installed: installed('probe', {}, settings),
    stage: 'mail' as const,
    facts,
    log: new FakeLog(),
    clock,
    cancelled: cancel.signal,
    ...(deadline === undefined ? {} : { deadline }),
  }
  return { answered: ask(question, (io) => call(io) as Answer), clock, facts, cancel }
}

function failureOf(answered: Answered): string {
  const { failure } = answered.asked
  return failure === undefined ? 'none' : `${failure.kind}: ${failure.message}`
}

const UNAVAILABLE = ['PROBE_UNAVAILABLE']

test('an answer at once and an answer by a promise are the same', async () => {
  const opinion: Opinion = { findings: [{ symbol: 'SEEN', detail: 'x' }], headers: [{ name: 'X-A', value: 'b' }] }
  for (const call of [() => opinion, async () => opinion]) {
    const { answered, clock } = asking(call)
    const { findings, headers, verdict, asked } = await answered
    assert.deepEqual({ findings, headers, verdict }, { ...opinion, verdict: undefined })
    assert.deepEqual([asked.answer, asked.symbols, asked.failure], ['findings', ['SEEN'], undefined])
    assert.equal(clock.pending, 0)
  }
})

test('nothing to say is no failure', async () => {
  for (const call of [() => undefined, async () => undefined, () => ({}), () => ({ findings: [] })]) {
    const { asked, findings } = await asking(call).answered
    assert.deepEqual([asked.answer, findings, asked.failure], ['nothing', [], undefined])
  }
})

for (const [name, call] of [
  ['throws', () => assert.fail('broken')],
  ['rejects', () => Promise.reject(new Error('broken'))],
  [
    'rejects later',
    async () => {
      await settle(3)
      throw new Error('broken')
    },
  ],
] as const) {
  test(`a filter that ${name} is a failure with its message`, async () => {
    const { answered, clock } = asking(call)
    const answer = await answered
    assert.equal(failureOf(answer), 'threw: broken')
    assert.deepEqual(
      answer.findings.map((f) => f.symbol),
      UNAVAILABLE,
    )
    assert.deepEqual([answer.asked.answer, answer.verdict], ['failed', undefined])
    assert.equal(clock.pending, 0)
  })
}

test('what is thrown need not be an error', async () => {
  for (const [thrown, message] of [
    ['a text', 'a text'],
    [undefined, 'undefined'],
    [null, 'null'],
    [7, '7'],
  ] as const) {
    const answer = await asking(() => Promise.reject(thrown)).answered
    assert.equal(failureOf(answer), `threw: ${message}`)
  }
})

test('what is thrown may be hostile to whoever looks at it', async () => {
  const hostile = [
    Object.create(null),
    { toString: () => assert.fail('again') },
    Symbol('s'),
    Object.defineProperty(new Error('x'), 'message', { get: () => assert.fail('again') }),
    Object.assign(new Error('x'), { message: 7 }),
  ]
  for (const thrown of hostile) {
    const answer = await asking(() => Promise.reject(thrown)).answered
    assert.match(failureOf(answer), /^threw: /)
    assert.equal(typeof answer.asked.failure?.message, 'string')
  }
})

test('no answer within the time-out is a failure at that time', async () => {
  const { answered, clock } = asking(() => new Promise(() => {}), { timeout: 2000 })
  let done = false
  answered.then(() => {
    done = true
  })
  await clock.advance(1999)
  assert.equal(done, false)
  await clock.advance(1)
  assert.equal(failureOf(await answered), 'timeout: no answer within 2000 ms')
  assert.equal((await answered).asked.milliseconds, 2000)
  assert.equal(clock.pending, 0)
})

test('the deadline of the stage counts where it is before the time-out, also when it is over already', async () => {
  const { answered, clock } = asking(() => new Promise(() => {}), { timeout: 5000 }, 300)
  await clock.advance(300)
  assert.match(failureOf(await answered), /^timeout: /)
  const late = asking(() => new Promise(() => {}), {}, -10)
  await late.clock.advance(0)
  assert.match(failureOf(await late.answered), /^timeout: /)
})

test('an answer after the time-out is not heard', async () => {
  const { answered, clock } = asking(
    () => new Promise((resolve) => clock.timer(200, () => resolve({ findings: [{ symbol: 'LATE' }] }))),
    { timeout: 100 },
  )
  await clock.advance(500)
  const { findings } = await answered
  assert.deepEqual(
    findings.map((f) => f.symbol),
    UNAVAILABLE,
  )
})

test('a rejection after the time-out is nobody’s unhandled rejection', async (t) => {
  const unhandled = t.mock.fn()
  process.on('unhandledRejection', unhandled)
  t.after(() => process.off('unhandledRejection', unhandled))
  const { answered, clock } = asking(
    () => new Promise((_, reject) => clock.timer(200, () => reject(new Error('late')))),
    { timeout: 100 },
  )
  await clock.advance(500)
  await answered
  await settle()
  assert.equal(unhandled.mock.callCount(), 0)
})

test('a thenable that answers twice is heard once', async () => {
  const twice = {
    // biome-ignore lint/suspicious/noThenProperty: a thenable is what is tested
    then(resolve: (value: unknown) => void, reject: (error: unknown) => void) {
      resolve({ findings: [{ symbol: 'FIRST' }] })
      resolve({ verdict: { kind: 'reject', reason: 'second' } })
      reject(new Error('third'))
    },
  }
  const { answered, clock } = asking(() => twice)
  const answer = await answered
  assert.deepEqual(answer.asked.symbols, ['FIRST'])
  assert.equal(answer.verdict, undefined)
  assert.equal(clock.pending, 0)
})

test('a thenable that answers with a promise that never settles is cut off as well', async () => {
  // biome-ignore lint/suspicious/noThenProperty: a thenable is what is tested
  const endless = { then: (resolve: (value: unknown) => void) => resolve(new Promise(() => {})) }
  const { answered, clock } = asking(() => endless, { timeout: 100 })
  await clock.advance(100)
  assert.match(failureOf(await answered), /^timeout: /)
})

test('a thenable whose then throws is a failure, and leaves no timer', async () => {
  // biome-ignore lint/suspicious/noThenProperty: a thenable is what is tested
  const broken = { then: () => assert.fail('no then') }
  const { answered, clock } = asking(() => broken)
  assert.equal(failureOf(await answered), 'threw: no then')
  assert.equal(clock.pending, 0)
})

test('on_failure: defer makes a failure 451 4.3.0, and never more', async () => {
  for (const call of [() => assert.fail('broken'), () => 'nonsense', () => Promise.reject(new Error('broken'))]) {
    const { verdict, findings } = await asking(call, { onFailure: 'defer' }).answered
    assert.equal(verdict?.kind, 'defer')
    assert.deepEqual(verdict.reply?.code, 451)
    assert.match(verdict.reason, /^probe failed \(/)
    assert.deepEqual(
      findings.map((f) => f.symbol),
      UNAVAILABLE,
    )
  }
})

test('a verdict of a failing filter does not count', async () => {
  const answer = await asking(() => ({ verdict: { kind: 'reject', reason: 'yes' }, findings: 'no list' })).answered
  assert.equal(answer.verdict, undefined)
  assert.match(failureOf(answer), /^nonsense: /)
})

test('shadow mode has no effect and is recorded with what it would have done', async () => {
  const opinion: Opinion = {
    findings: [{ symbol: 'SEEN' }],
    headers: [{ name: 'X-A', value: 'b' }],
    verdict: { kind: 'reject', reason: 'on a list' },
  }
  const { findings, headers, verdict, asked } = await asking(() => opinion, { mode: 'shadow' }).answered
  assert.deepEqual([findings, headers, verdict], [[], [], undefined])
  assert.deepEqual([asked.answer, asked.symbols, asked.reason, asked.shadow], ['reject', ['SEEN'], 'on a list', true])
})

test('a failure in shadow mode with on_failure: defer has no effect either', async () => {
  const answer = await asking(() => assert.fail('broken'), { mode: 'shadow', onFailure: 'defer' }).answered
  assert.deepEqual([answer.findings, answer.verdict, answer.asked.answer], [[], undefined, 'failed'])
})

test('facts are set while the filter works, and not after its answer or its deadline', async () => {
  const settings = { writes: [fact('a'), fact('b')], timeout: 100 }
  const ios: FilterIo[] = []
  const quick = asking((io) => {
    ios.push(io)
    io.set(fact('a'), 'now' as never)
    return {}
  }, settings)
  await quick.answered
  ios[0]?.set(fact('b'), 'afterwards' as never)
  assert.deepEqual([quick.facts.get(fact('a')), quick.facts.get(fact('b'))], ['now', undefined])
  const slow = asking((io) => {
    ios.push(io)
    return new Promise(() => {})
  }, settings)
  slow.clock.timer(50, () => ios[1]?.set(fact('a'), 'in time' as never))
  slow.clock.timer(150, () => ios[1]?.set(fact('b'), 'too late' as never))
  await slow.clock.advance(200)
  await slow.answered
  assert.deepEqual([slow.facts.get(fact('a')), slow.facts.get(fact('b'))], ['in time', undefined])
})

test('a filter in shadow mode writes no facts: others would act on them', async () => {
  const settings: Partial<InstalledFilter> = { mode: 'shadow', writes: [fact('mine')] }
  const { answered, facts } = asking((io) => io.set(fact('mine'), 'x' as never), settings)
  assert.equal(failureOf(await answered), 'none')
  assert.equal(facts.get(fact('mine')), undefined)
})

test('a fact that was not declared is a failure of the filter', async () => {
  const { answered, facts } = asking((io) => io.set(fact('other'), 'x' as never), { writes: [fact('mine')] })
  assert.equal(failureOf(await answered), "threw: filter probe does not declare that it writes 'other'")
  assert.equal(facts.get(fact('other')), undefined)
})

test('the signal is aborted at the deadline, and when nobody waits any more', async () => {
  const signals: AbortSignal[] = []
  const hang = (io: FilterIo) => {
    signals.push(io.signal)
    return new Promise(() => {})
  }
  const late = asking(hang, { timeout: 100 })
  await late.clock.advance(99)
  assert.equal(signals[0]?.aborted, false)
  await late.clock.advance(1)
  assert.equal(signals[0]?.aborted, true)
  const cancelled = asking(hang)
  cancelled.cancel.abort()
  assert.equal(signals[1]?.aborted, false)
  const answer = await cancelled.answered
  assert.equal(signals[1]?.aborted, true)
  assert.deepEqual([answer.asked.answer, answer.findings, cancelled.clock.pending], ['cancelled', [], 0])
})

test('a signal that is looked at only after the deadline is aborted', async () => {
  const ios: FilterIo[] = []
  const { answered, clock } = asking(
    (io) => {
      ios.push(io)
      return new Promise(() => {})
    },
    { timeout: 100 },
  )
  await clock.advance(100)
  await answered
  assert.equal(ios[0]?.signal.aborted, true)
})
