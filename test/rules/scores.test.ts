// rules/scores.yaml: weights with their place, laid over each other, and refused as a whole where anything is wrong.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parseScores, Scores, ScoresError } from '../../src/rules/scores.ts'

const SHIPPED = fileURLToPath(new URL('../../rules/scores.yaml', import.meta.url))

function file(t: TestContext, name: string, text: string): string {
  const dir = mkdtempSync(join(tmpdir(), 'postern-scores-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const path = join(dir, name)
  writeFileSync(path, text)
  return path
}

function problems(text: string): readonly string[] {
  try {
    parseScores(text, 'scores.yaml')
  } catch (error) {
    if (error instanceof ScoresError) return error.message.split('\n')
    throw error
  }
  return assert.fail('the file was taken')
}

test('the shipped file is well', () => {
  assert.deepEqual(Scores.load([SHIPPED]).of('NETWORK_DENY').score, 0)
  assert.match(Scores.load([SHIPPED]).of('NETWORK_DENY').source, /^scores.yaml:\d+$/)
})

test('a weight says where it stands; what has none weighs nothing', () => {
  const scores = parseScores('# comment\nA_ONE: 1.5\n\nB2: -3 # good\n', 'my/scores.yaml')
  assert.deepEqual(
    [...scores],
    [
      ['A_ONE', { score: 1.5, source: 'scores.yaml:2' }],
      ['B2', { score: -3, source: 'scores.yaml:4' }],
    ],
  )
})

test('the site’s file is laid over the shipped one, symbol by symbol', (t) => {
  const shipped = file(t, 'scores.yaml', 'A: 1\nB: 2\n')
  const site = file(t, 'site.yaml', '\nB: 7\nC: 3\n')
  const scores = Scores.load([shipped, site])
  assert.deepEqual(
    ['A', 'B', 'C', 'D'].map((symbol) => scores.of(symbol)),
    [
      { score: 1, source: 'scores.yaml:1' },
      { score: 7, source: 'site.yaml:2' },
      { score: 3, source: 'site.yaml:3' },
      { score: 0, source: 'no weight' },
    ],
  )
})

test('symbols named like what every object has weigh nothing', () => {
  for (const symbol of ['constructor', '__proto__', 'toString']) {
    assert.equal(Scores.load([SHIPPED]).of(symbol).score, 0)
  }
})

test('an empty file is a file without weights', () => {
  for (const text of ['', '# nothing\n', '---\n', '{}\n']) assert.equal(parseScores(text, 'scores.yaml').size, 0)
})

for (const [name, text, expected] of [
  ['a list', '- A\n', /^scores.yaml:1:1: expected lines such as/],
  ['a text', 'hello\n', /^scores.yaml:1:1: expected lines such as/],
  ['a symbol in lower case', 'A: 1\nspam: 2\n', /^scores.yaml:2:1: 'spam' is no symbol/],
  ['a symbol with a blank', 'A B: 1\n', /^scores.yaml:1:1: 'A B' is no symbol/],
  ['a number for a symbol', '7: 1\n', /^scores.yaml:1:1: '7' is no symbol/],
  ['a weight that is a text', 'A: "1"\n', /^scores.yaml:1:1: A: expected a number/],
  ['a weight that is missing', 'A:\n', /^scores.yaml:1:1: A: expected a number/],
  ['a weight that is a list', 'A: [1]\n', /^scores.yaml:1:1: A: expected a number/],
  ['a weight that is no number', 'A: .nan\n', /^scores.yaml:1:1: A: expected a number/],
  ['a weight without end', 'A: .inf\n', /^scores.yaml:1:1: A: expected a number/],
  ['a weight out of all proportion', 'A: 1001\n', /^scores.yaml:1:1: A: expected a number from -1000 to 1000/],
  ['a symbol that stands twice', 'A: 1\nA: 2\n', /^scores.yaml:2:1: /],
  ['what is no YAML', 'A: [1\n', /^scores.yaml:\d+:\d+: /],
] as const) {
  test(`refused: ${name}`, () => assert.match(problems(text)[0] ?? '', expected))
}

test('all problems are told together, and nothing of the file is used', (t) => {
  assert.equal(problems('spam: 1\nA: x\nB: 2\n').length, 2)
  const broken = file(t, 'scores.yaml', 'A: 1\nB: x\n')
  assert.throws(() => Scores.load([broken]), ScoresError)
})

test('a file that is not there is told by its name', () => {
  assert.throws(() => Scores.load(['/nowhere/scores.yaml']), /^ScoresError: \/nowhere\/scores.yaml: ENOENT/)
})
