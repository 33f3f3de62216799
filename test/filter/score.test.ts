// From findings to a sum and an action.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { actionFor, type Found, weigh } from '../../src/filter/score.ts'

const WEIGHTS = new Map([
  ['A', 0.1],
  ['B', 0.2],
  ['C', -3],
  ['D', 4.7],
])
const weightOf = (symbol: string) => ({ score: WEIGHTS.get(symbol) ?? 0, source: `scores.yaml:${symbol}` })
const found = (symbol: string, filter = 'f', detail?: string): Found => ({
  filter,
  finding: { symbol, ...(detail === undefined ? {} : { detail }) },
})

test('a symbol counts once, and the first filter that found it is named', () => {
  assert.deepEqual(weigh([found('D', 'one', 'x'), found('D', 'two', 'y'), found('NONE')], weightOf), {
    score: 4.7,
    findings: [
      { symbol: 'D', score: 4.7, source: 'scores.yaml:D', filter: 'one', detail: 'x' },
      { symbol: 'NONE', score: 0, source: 'scores.yaml:NONE', filter: 'f' },
    ],
  })
})

test('what is shown and what decides is one number', () => {
  assert.equal(weigh([found('A'), found('B')], weightOf).score, 0.3)
  assert.equal(weigh([found('A'), found('B'), found('D')], weightOf).score, 5)
  assert.equal(weigh([], weightOf).score, 0)
})

test('neither order nor repetition changes the sum (P7)', () => {
  const symbols = fc.array(fc.constantFrom('A', 'B', 'C', 'D', 'E'), { maxLength: 12 })
  fc.assert(
    fc.property(symbols, (list) => {
      const once = [...new Set(list)].toSorted()
      const sum = (all: readonly string[]) =>
        weigh(
          all.map((s) => found(s)),
          weightOf,
        ).score
      assert.equal(sum(list), sum(once))
      assert.equal(sum(list.toReversed()), sum(list))
    }),
  )
})

for (const [score, thresholds, action] of [
  [4.999, { tag: 5, reject: 12 }, 'deliver'],
  [5, { tag: 5, reject: 12 }, 'tag'],
  [11.999, { tag: 5, reject: 12 }, 'tag'],
  [12, { tag: 5, reject: 12 }, 'reject'],
  [8, { tag: 5, defer: 8, reject: 12 }, 'defer'],
  [7.999, { tag: 5, defer: 8, reject: 12 }, 'tag'],
  [12, { tag: 5, defer: 8, reject: 12 }, 'reject'],
  [3, { tag: 5, defer: 2, reject: 12 }, 'defer'],
  [12, { tag: 20, reject: 12 }, 'reject'],
  [-5, { tag: -5, reject: 12 }, 'tag'],
] as const) {
  test(`${score} with ${JSON.stringify(thresholds)}: ${action}`, () =>
    assert.equal(actionFor(score, thresholds), action))
}
