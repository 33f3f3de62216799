// Filters from the configuration: sections, options, listeners, plugins, and every problem with its place.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { z } from 'zod'
import { loadConfig } from '../src/config/load.ts'
import { ConfigError } from '../src/config/problem.ts'
import type { InstalledFilter } from '../src/filter/ask.ts'
import { defineFilter } from '../src/filter/filter.ts'
import { type AnyFilterDefinition, installFilters, type TableEntry } from '../src/install-filters.ts'
import { FakeClock } from './support/fake-clock.ts'
import { FakeLog } from './support/fake-log.ts'
import { fact } from './support/filters.ts'

const plain = defineFilter({ name: 'plain', create: () => ({ mail: () => undefined }) })
const seen: unknown[] = []
const strict = defineFilter({
  name: 'strict',
  options: z.strictObject({ words: z.array(z.string()).default([]), limit: z.int().min(1).default(7) }),
  writes: [fact('mine')],
  create(options) {
    seen.push(options)
    return {}
  },
})
const TABLE: readonly TableEntry[] = [plain, strict].map((definition) => ({
  definition: definition as AnyFilterDefinition,
  enabled: true,
}))

function install(text: string, path = 'postern.yaml', table = TABLE): Promise<InstalledFilter[]> {
  const loaded = loadConfig({ text, path, env: {} })
  return installFilters({ loaded, table, clock: new FakeClock(), log: new FakeLog() })
}

async function problemsOf(text: string, path?: string, table?: readonly TableEntry[]): Promise<readonly string[]> {
  try {
    await install(text, path, table)
  } catch (error) {
    if (error instanceof ConfigError) return error.message.split('\n')
    throw error
  }
  return assert.fail('it was installed')
}

test('without sections every filter has the common defaults, in the order of the table', async () => {
  const filters = await install('')
  assert.deepEqual(
    filters.map((f) => f.name),
    ['plain', 'strict'],
  )
  const { filter: _, ...settings } = filters[1] ?? assert.fail('none')
  assert.deepEqual(settings, {
    name: 'strict',
    mode: 'enforce',
    timeout: 5000,
    onFailure: 'skip',
    always: false,
    holdsGreeting: false,
    listeners: undefined,
    reads: [],
    writes: ['mine'],
  })
})

test('common settings and the filter’s own are taken apart', async () => {
  const [, filter] = await install(
    'filters: {strict: {mode: shadow, timeout: 250ms, on_failure: defer, listeners: [mx], words: [a], limit: 3}}\n',
  )
  assert.deepEqual([filter?.mode, filter?.timeout, filter?.onFailure], ['shadow', 250, 'defer'])
  assert.deepEqual(filter?.listeners, new Set(['mx']))
  assert.deepEqual(seen.at(-1), { words: ['a'], limit: 3 })
})

test('a section without content is the defaults', async () => {
  assert.equal((await install('filters: {plain: , strict: {}}\n')).length, 2)
})

test('a filter is switched off, or on where the table has it off', async () => {
  assert.deepEqual(
    (await install('filters: {plain: {enabled: false}}\n')).map((f) => f.name),
    ['strict'],
  )
  const off = TABLE.map((entry) => ({ ...entry, enabled: false }))
  assert.deepEqual(await install('', 'postern.yaml', off), [])
  const on = await install('filters: {strict: {enabled: true}}\n', 'postern.yaml', off)
  assert.deepEqual(
    on.map((f) => f.name),
    ['strict'],
  )
})

test('the options of a filter that is off are checked all the same', async () => {
  assert.match((await problemsOf('filters: {strict: {enabled: false, limit: 0}}\n'))[0] ?? '', /strict.limit/)
})

const wrong: readonly (readonly [string, string, RegExp])[] = [
  [
    'an unknown filter',
    'filters:\n  strct: {}\n',
    /^postern.yaml:2:\d+: filters.strct: unknown filter; did you mean strict\?$/,
  ],
  ['one that is like none', 'filters: {whatever: {}}\n', /^postern.yaml:1:\d+: filters.whatever: unknown filter$/],
  [
    'an unknown option',
    'filters:\n  strict:\n    limt: 3\n',
    /^postern.yaml:3:5: filters.strict.limt: .*did you mean limit\?/,
  ],
  [
    'a misspelt common setting',
    'filters:\n  strict:\n    timeot: 3s\n',
    /^postern.yaml:3:5: filters.strict.timeot: .*did you mean timeout\?/,
  ],
  ['a wrong option', 'filters:\n  strict:\n    limit: many\n', /^postern.yaml:3:12: filters.strict.limit: /],
  [
    'a wrong item',
    'filters:\n  strict:\n    words:\n      - a\n      - 7\n',
    /^postern.yaml:5:9: filters.strict.words\[1\]: /,
  ],
  [
    'an option of a filter without any',
    'filters:\n  plain:\n    limit: 3\n',
    /^postern.yaml:\d:\d+: filters.plain(\.limit)?: unknown setting/,
  ],
  ['a wrong common setting', 'filters:\n  plain:\n    mode: dark\n', /^postern.yaml:3:11: filters.plain.mode: /],
  ['a wrong time-out', 'filters:\n  plain:\n    timeout: soon\n', /^postern.yaml:3:14: filters.plain.timeout: /],
  [
    'an unknown listener',
    'filters:\n  plain:\n    listeners: [mx, submission]\n',
    /^postern.yaml:3:\d+: filters.plain.listeners.*: no listener is named 'submission'$/,
  ],
]
for (const [name, text, expected] of wrong) {
  test(`refused: ${name}`, async () => {
    const problems = await problemsOf(text)
    assert.match(problems[0] ?? '', expected)
    assert.equal(problems.length, 1, problems.join('\n'))
  })
}

test('several problems are told together', async () => {
  const problems = await problemsOf('filters: {plain: {mode: dark}, strict: {limit: 0, words: a}}\n')
  assert.equal(problems.length, 3, problems.join('\n'))
})

test('what create throws is a problem of the section', async () => {
  const broken = defineFilter({ name: 'broken', create: () => assert.fail('the scanner has no address') })
  const table = [{ definition: broken as AnyFilterDefinition, enabled: true }]
  assert.deepEqual(await problemsOf('\nfilters: {broken: {}}\n', 'postern.yaml', table), [
    'postern.yaml:2:19: filters.broken: the scanner has no address',
  ])
})

test('a reader of a fact that nobody writes is a problem', async () => {
  const reader = defineFilter({ name: 'reader', reads: [fact('mine')], create: () => ({}) })
  const table = [{ definition: reader as AnyFilterDefinition, enabled: true }, ...TABLE]
  assert.match(
    (await problemsOf('', 'postern.yaml', table))[0] ?? '',
    /reader reads the fact 'mine', which strict writes/,
  )
})

interface Site {
  readonly path: string
  write(name: string, text: string): void
}

// Outside of this project, so that nothing of its node_modules is found from there.
function site(t: TestContext): Site {
  const dir = mkdtempSync(join(tmpdir(), 'postern-plugin-'))
  t.after(() => rmSync(dir, { recursive: true }))
  return { path: join(dir, 'postern.yaml'), write: (name, text) => writeFileSync(join(dir, name), text) }
}

const GOOD = `import { defineFilter, type Filter } from 'postern/filter'
export default defineFilter({
  name: 'mine',
  options: { parse: (raw: unknown) => raw as { greeting?: string } },
  create: (options): Filter => ({ mail: () => ({ findings: [{ symbol: 'MINE', detail: options.greeting ?? '' }] }) }),
})
`

test('a plugin is loaded from a folder without node_modules, comes last, and has its section', async (t) => {
  const { path, write } = site(t)
  write('mine.ts', GOOD)
  const filters = await install('plugins: [./mine.ts]\nfilters: {mine: {greeting: hi, mode: shadow}}\n', path)
  assert.deepEqual(
    filters.map((f) => [f.name, f.mode]),
    [
      ['plain', 'enforce'],
      ['strict', 'enforce'],
      ['mine', 'shadow'],
    ],
  )
  const answer = await filters[2]?.filter.mail?.({} as never, {} as never)
  assert.deepEqual(answer, { findings: [{ symbol: 'MINE', detail: 'hi' }] })
})

test('a plugin in JavaScript is as good', async (t) => {
  const { path, write } = site(t)
  write('mine.mjs', "export default { name: 'mine', create: () => ({}) }\n")
  assert.equal((await install('plugins: [mine.mjs]\n', path)).at(-1)?.name, 'mine')
})

const badPlugins: readonly (readonly [string, string, RegExp])[] = [
  ['has no default export', 'export const filter = {}\n', /no default export made with defineFilter/],
  ['exports null', 'export default null\n', /no default export/],
  ['exports a function', 'export default () => {}\n', /no default export/],
  ['has no name', 'export default { create: () => ({}) }\n', /no proper name/],
  ['has a bad name', "export default { name: 'My-Filter', create: () => ({}) }\n", /no proper name/],
  ['has a name for prototypes', "export default { name: '__proto__', create: () => ({}) }\n", /no proper name/],
  ['has no create', "export default { name: 'mine' }\n", /its filter mine has no create function/],
  ['throws while loading', "throw new Error('no licence')\n", /no licence/],
  ['throws what is no error', "throw 'no licence'\n", /no licence/],
  ['is no JavaScript', 'this is ( no program\n', /mine.mjs/],
  ['imports what is not there', "import 'postern-of-nowhere'\nexport default {}\n", /postern-of-nowhere/],
]
for (const [name, text, expected] of badPlugins) {
  test(`a plugin that ${name} is a problem of its line`, async (t) => {
    const { path, write } = site(t)
    write('mine.mjs', text)
    const problems = (await problemsOf('plugins:\n  - mine.mjs\n', path)).join('\n')
    assert.ok(problems.startsWith(`${path}:2:5: plugins[0]: mine.mjs: `), problems)
    assert.match(problems, expected)
  })
}

test('a plugin that is not there is a problem of its line', async (t) => {
  const { path } = site(t)
  assert.match((await problemsOf('plugins: [nowhere.ts]\n', path))[0] ?? '', /plugins\[0\]: nowhere.ts: .*nowhere.ts/)
})

test('a plugin that takes the name of another filter is a problem', async (t) => {
  const { path, write } = site(t)
  write('mine.mjs', "export default { name: 'plain', create: () => ({}) }\n")
  assert.match((await problemsOf('plugins: [mine.mjs]\n', path))[0] ?? '', /two filters are named 'plain'/)
})

test('options that a plugin refuses are told with file and line, whatever it throws', async (t) => {
  const { path, write } = site(t)
  const withParse = (body: string) =>
    write('mine.mjs', `export default { name: 'mine', options: { parse() { ${body} } }, create: () => ({}) }\n`)
  withParse("throw new Error('greeting is missing')")
  const text = 'plugins: [mine.mjs]\nfilters:\n  mine:\n    greting: hi\n'
  assert.match((await problemsOf(text, path))[0] ?? '', /postern.yaml:4:5: filters.mine: greeting is missing$/)
})

test('an error of a plugin’s own zod is told with the place of the option', async (t) => {
  const { path, write } = site(t)
  const issue = "{ code: 'custom', path: ['greeting'], message: 'expected a greeting' }"
  write(
    'mine.mjs',
    `export default {
      name: 'mine',
      options: { parse() { throw Object.assign(new Error('zod'), { issues: [${issue}] }) } },
      create: () => ({}),
    }\n`,
  )
  const text = 'plugins: [mine.mjs]\nfilters:\n  mine:\n    greeting: 7\n'
  assert.match(
    (await problemsOf(text, path))[0] ?? '',
    /postern.yaml:4:15: filters.mine.greeting: expected a greeting; found 7$/,
  )
})

test('issues that are none of zod’s hurt nobody', async (t) => {
  const { path, write } = site(t)
  for (const [i, issues] of ["['x']", '[null]', '[{}]', "[{ path: 'a', message: 7 }]"].entries()) {
    write(
      `mine${i}.mjs`,
      `export default { name: 'mine', create() { throw Object.assign(new Error('x'), { issues: ${issues} }) } }\n`,
    )
    assert.match((await problemsOf(`plugins: [mine${i}.mjs]\n`, path))[0] ?? '', /filters.mine/)
  }
})
