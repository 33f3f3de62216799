// Lists in files of their own, and the check of domain names.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { domainProblem } from '../../src/config/domains.ts'
import { expandLists } from '../../src/config/lists.ts'

function folder(t: TestContext, files: Record<string, string | Uint8Array>): string {
  const path = mkdtempSync(join(tmpdir(), 'postern-lists-'))
  t.after(() => rmSync(path, { recursive: true }))
  for (const [name, content] of Object.entries(files)) writeFileSync(join(path, name), content)
  return path
}

test('entries that name no file stay as they are', () => {
  assert.deepEqual(expandLists(['example.org', 'a b'], '/nowhere'), {
    entries: [
      { text: 'example.org', index: 0, where: undefined },
      { text: 'a b', index: 1, where: undefined },
    ],
    problems: [],
  })
})

test('comments and blank lines are skipped and lines are counted with them, whatever the line ends', (t) => {
  const base = folder(t, {
    'a.txt': '\uFEFF# ours\r\n\r\n  example.org  # main\r\na#b@example.org\n\t\n#\rlast.example',
  })
  const { entries, problems } = expandLists(['first.example', 'file:a.txt'], base)
  assert.deepEqual(problems, [])
  assert.deepEqual(
    entries.map(({ text, index, where }) => [text, index, where]),
    [
      ['first.example', 0, undefined],
      ['example.org', 1, 'a.txt:3'],
      ['a#b@example.org', 1, 'a.txt:4'],
      ['last.example', 1, 'a.txt:7'],
    ],
  )
})

test('an absolute name is taken as it is', (t) => {
  const base = folder(t, { 'a.txt': 'example.org' })
  const { entries } = expandLists([`file:${join(base, 'a.txt')}`], '/nowhere')
  assert.deepEqual(entries, [{ text: 'example.org', index: 0, where: `${join(base, 'a.txt')}:1` }])
})

test('an empty list is no entry and no problem', (t) => {
  assert.deepEqual(expandLists(['file:a.txt'], folder(t, { 'a.txt': '' })), { entries: [], problems: [] })
})

test('a file that cannot be read is a problem of its entry', (t) => {
  const base = folder(t, { 'latin1.txt': Uint8Array.of(0x62, 0xfc, 0x0a) })
  const { entries, problems } = expandLists(
    ['ok.example', 'file:none.txt', 'file:.', 'file:latin1.txt', 'file: '],
    base,
  )
  assert.deepEqual(
    entries.map(({ text }) => text),
    ['ok.example'],
  )
  assert.deepEqual(
    problems.map(({ index, message }) => [index, message]),
    [
      [1, `${join(base, 'none.txt')}: there is no such file`],
      [2, `${base}: this is a folder, not a file`],
      [3, `${join(base, 'latin1.txt')}: not a text in UTF-8`],
      [4, 'expected the name of a file after file:'],
    ],
  )
})

test('a list cannot name a list', (t) => {
  const { entries, problems } = expandLists(['file:a.txt'], folder(t, { 'a.txt': 'example.org\nfile:a.txt\n' }))
  assert.equal(entries.length, 1)
  assert.deepEqual(problems, [{ index: 0, where: 'a.txt:2', message: 'a list cannot name another list' }])
})

const LONGEST_LABEL = 'a'.repeat(63)
const GOOD = [
  'example.org',
  'EXAMPLE.org',
  'localhost',
  'a.b',
  '3com.example',
  'xn--bcher-kva.example',
  'bücher.example',
  '例え.jp',
  `${LONGEST_LABEL}.example`,
  `${`${LONGEST_LABEL}.`.repeat(3)}${'a'.repeat(61)}`,
]
for (const name of GOOD) test(`${name} is a domain`, () => assert.equal(domainProblem(name), undefined))

const BAD: readonly (readonly [name: string, reason: RegExp])[] = [
  ['', /expected a domain/],
  ['user@example.org', /not an address; did you mean example\.org\?/],
  ['@example.org', /did you mean example\.org\?/],
  ['postmaster@', /not an address$/],
  ['*.example.org', /no patterns/],
  ['.example.org', /no patterns/],
  ['example.org.', /without the dot/],
  ['example..org', /expected a domain such as/],
  ['a.org,b.org', /one domain/],
  ['a.org b.org', /one entry a line/],
  ['https://example.org', /not a URL/],
  ['192.0.2.1', /not an IP address/],
  ['[192.0.2.1]', /not an IP address/],
  ['[IPv6:2001:db8::1]', /not an IP address/],
  ['2001:db8::1', /not an IP address/],
  ['0x7f.1', /expected a domain/],
  ['010.0.0.1', /expected a domain/],
  ['-a.example', /expected a domain/],
  ['a-.example', /expected a domain/],
  ['a_b.example', /expected a domain/],
  ['exa/mple.org', /expected a domain/],
  ['example.org:25', /expected a domain/],
  [`${'a'.repeat(64)}.example`, /expected a domain/],
  [`${'ü'.repeat(62)}.example`, /expected a domain/],
  [`${`${LONGEST_LABEL}.`.repeat(3)}${'a'.repeat(62)}`, /expected a domain/],
  ['exa\u202emple.org', /expected a domain/],
  ['a\u0000.org', /expected a domain/],
]
for (const [name, reason] of BAD) {
  test(`${JSON.stringify(name)} is no domain`, () => assert.match(domainProblem(name) ?? 'a good domain', reason))
}
