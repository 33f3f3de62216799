// P7 and the facts: the order of the table decides, never who finished first, and nobody reads a fact before its writer has answered.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { InstalledFilter } from '../../src/filter/ask.ts'
import type { Opinion, Verdict } from '../../src/filter/filter.ts'
import type { FakeClock } from '../support/fake-clock.ts'
import { bench, both, fact, found, installed, says, symbols } from '../support/filters.ts'

const reject: Verdict = { kind: 'reject', reason: 'no' }

interface Random {
  readonly delay: number
  readonly verdict: 'none' | 'trust' | 'reject' | 'defer' | 'fail' | 'hang'
  readonly always: boolean
  readonly shadow: boolean
}

const random: fc.Arbitrary<Random> = fc.record({
  delay: fc.nat(90),
  verdict: fc.constantFrom('none', 'none', 'none', 'trust', 'reject', 'defer', 'fail', 'hang'),
  always: fc.boolean(),
  shadow: fc.boolean(),
})

function randomFilter({ delay, verdict, always, shadow }: Random, i: number, clock: () => FakeClock): InstalledFilter {
  const opinion: Opinion = {
    ...found(`S${i}`),
    ...(verdict === 'none' ? {} : { verdict: { kind: verdict, reason: `r${i}` } as Verdict }),
  }
  const answer = () =>
    new Promise<Opinion>((resolve, fail) => {
      if (verdict === 'hang') return
      clock().timer(delay, () => (verdict === 'fail' ? fail(new Error('away')) : resolve(opinion)))
    })
  return installed(`f${i}`, both(answer), { timeout: 100, always, mode: shadow ? 'shadow' : 'enforce' })
}

test('the order of the table decides, never who finished first', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(random, { minLength: 1, maxLength: 6 }),
      fc.array(fc.nat(90), { minLength: 6, maxLength: 6 }),
      async (filters, otherDelays) => {
        const outcome = async (all: readonly Random[]) => {
          const rig: { current?: ReturnType<typeof bench> } = {}
          const clock = () => rig.current?.clock ?? assert.fail('no clock')
          rig.current = bench(all.map((one, i) => randomFilter(one, i, clock)))
          const running = rig.current.mail()
          await rig.current.clock.advance(200)
          const result = await running
          // What those said who were asked in vain depends on when they were cut off, and counts for nothing.
          const asked = result.asked.map((a) => a.filter)
          return { ...result, asked, decided: result.decided }
        }
        const first = await outcome(filters)
        const second = await outcome(filters.map((one, i) => ({ ...one, delay: otherDelays[i] ?? 0 })))
        assert.deepEqual(second, first)
      },
    ),
    { numRuns: 60 },
  )
})

test('a filter that reads a fact starts when its writer has answered', async () => {
  const seen: unknown[] = []
  const { chain: _, ...rig } = bench([
    installed('other', { mail: () => new Promise(() => {}) }, { timeout: 1000 }),
    installed(
      'writer',
      {
        mail: (_tx, io) =>
          new Promise((resolve) => {
            rig.clock.timer(50, () => {
              io.set(fact('spf'), 'pass' as never)
              resolve(undefined)
            })
          }),
      },
      { writes: [fact('spf')] },
    ),
    installed(
      'reader',
      {
        mail() {
          seen.push([rig.clock.now(), rig.facts.get(fact('spf'))])
          return undefined
        },
      },
      { reads: [fact('spf')] },
    ),
  ])
  const running = rig.mail()
  await rig.clock.advance(49)
  assert.deepEqual(seen, [])
  await rig.clock.advance(1)
  assert.deepEqual(seen, [[50, 'pass']])
  await rig.clock.advance(1000)
  await running
})

test('a reader starts also when its writer fails or hangs: without the fact', async () => {
  for (const writer of [() => assert.fail('away'), () => new Promise<undefined>(() => {})]) {
    const seen: unknown[] = []
    const { chain: _, ...rig } = bench([
      installed('writer', { mail: writer }, { writes: [fact('spf')], timeout: 100 }),
      installed(
        'reader',
        {
          mail() {
            seen.push(rig.facts.get(fact('spf')))
            return found('READ')
          },
        },
        { reads: [fact('spf')] },
      ),
    ])
    const running = rig.mail()
    await rig.clock.advance(100)
    assert.deepEqual(symbols(await running), ['WRITER_UNAVAILABLE', 'READ'])
    assert.deepEqual(seen, [undefined])
  }
})

test('a reader that has not started when a verdict falls is not asked any more', async () => {
  let calls = 0
  const { chain: _, ...rig } = bench([
    says('judge', { verdict: reject }),
    installed('writer', { mail: () => new Promise(() => {}) }, { writes: [fact('spf')] }),
    installed(
      'reader',
      {
        mail() {
          calls++
          return undefined
        },
      },
      { reads: [fact('spf')] },
    ),
  ])
  await rig.mail()
  await rig.clock.advance(10_000)
  assert.equal(calls, 0)
})
