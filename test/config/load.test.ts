// The configuration file: what is completed, what is refused, and that every refusal names its line and column.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type LoadOptions, loadConfig } from '../../src/config/load.ts'
import { ConfigError } from '../../src/config/problem.ts'

function load(text: string) {
  return loadConfig({ text, env: {} })
}

function problemsOf(options: LoadOptions): readonly string[] {
  try {
    loadConfig({ env: {}, ...options })
  } catch (error) {
    if (error instanceof ConfigError) return error.message.split('\n')
    throw error
  }
  assert.fail('the configuration was accepted')
}

function refused(name: string, text: string, expected: readonly string[]): void {
  test(name, () => assert.deepEqual(problemsOf({ text }), expected))
}

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'postern-config-'))
  t.after(() => rmSync(path, { recursive: true }))
  return path
}

for (const text of ['', '\n# nothing\n', '---\n', '{}', '\uFEFF']) {
  test(`${JSON.stringify(text)} means all defaults`, () => {
    const { config } = load(text)
    assert.deepEqual(config.listeners[0]?.address, { host: '0.0.0.0', port: 25 })
    assert.deepEqual([config.domains, config.relay_networks], [[], []])
    assert.equal(config.limits.message_size, 50 * 1024 ** 2)
    assert.equal(config.limits.idle, 300_000)
  })
}

test('values are read as people write them', () => {
  const { config } = load(
    'limits: {idle: 90s, message_size: 1.5MiB}\nadmin: {address: off}\ndomains: [bücher.example]\n',
  )
  assert.equal(config.limits.idle, 90_000)
  assert.equal(config.limits.message_size, 1_572_864)
  assert.equal(config.admin.address, 'off')
  assert.deepEqual(config.domains, ['bücher.example'])
})

test('the configuration is frozen to its leaves, and the next one is not affected', () => {
  const { config } = load('filters: {x: {list: [a]}}\n')
  const parts: unknown[] = [
    config,
    config.limits,
    config.listeners,
    config.listeners[0]?.address,
    config.filters.x?.list,
  ]
  assert.deepEqual(parts.map(Object.isFrozen), [true, true, true, true, true])
  assert.deepEqual(load('').config.exempt_recipients, ['postmaster@', 'abuse@'])
})

test('aliases are understood', () => {
  const { config } = load('filters: {a: &a {on: [1]}, b: *a}\n')
  assert.deepEqual(config.filters.b, { on: [1] })
})

refused('a misspelt key is named at its place', 'limits:\n  idle: 5m\n  mesage_size: 1\n', [
  'postern.yaml:3:3: limits.mesage_size: unknown setting; did you mean message_size?',
])
refused('a key of another section', 'message_size: 1MiB\nlimits: {level: debug}\n', [
  'postern.yaml:1:1: message_size: unknown setting here; it belongs under limits',
  'postern.yaml:2:10: limits.level: unknown setting here; it belongs under log',
])
refused('a key that stands in two other sections', 'idle: 5m\n', [
  'postern.yaml:1:1: idle: unknown setting here; it belongs under backend or under limits',
])
refused('a key of the top level', 'log: {data_dir: x}\n', [
  'postern.yaml:1:7: log.data_dir: unknown setting here; it belongs at the top level',
])
refused('a misspelt key of another section', 'mesage_size: 1MiB\n', [
  'postern.yaml:1:1: mesage_size: unknown setting; did you mean limits.message_size?',
])
refused('a key that is like no other', 'log: {zzzzzz: 1}\nqqqq: 1\n', [
  'postern.yaml:1:7: log.zzzzzz: unknown setting; known here: level, format',
  'postern.yaml:2:1: qqqq: unknown setting',
])
refused('unknown keys in list items', 'listeners:\n  - {name: mx, address: "0.0.0.0:25", adress: x}\n', [
  'postern.yaml:2:39: listeners[0].adress: unknown setting; did you mean address?',
])
refused('a short key that is near to a key elsewhere by chance', 'rate: 5\n', [
  'postern.yaml:1:1: rate: unknown setting',
])
refused('spelling of other languages', 'dataDir: x\ndata-dir: x\n', [
  'postern.yaml:1:1: dataDir: unknown setting; did you mean data_dir?',
  'postern.yaml:2:1: data-dir: unknown setting; did you mean data_dir?',
])

refused(
  'wrong types',
  'hostname: 5\nlimits: [1]\nplugins: x\nfilters: {a: 3}\nactions: {tag: "5"}\nlog: {level: true}\n',
  [
    'postern.yaml:1:11: hostname: expected a text; found 5',
    'postern.yaml:2:9: limits: expected a mapping (key: value); found a list',
    'postern.yaml:3:10: plugins: expected a list such as [a, b]; found "x"',
    'postern.yaml:4:14: filters.a: expected a mapping (key: value); found 3',
    'postern.yaml:5:16: actions.tag: expected a number; found "5"',
    'postern.yaml:6:14: log.level: expected one of debug, info, warn, error; found true',
  ],
)
refused(
  'wrong values',
  'limits:\n  errors: 0\n  received: 1.5\n  idle: 5x\nlog:\n  level: infoo\nadmin: {address: here}\n',
  [
    'postern.yaml:2:11: limits.errors: must be at least 1; found 0',
    'postern.yaml:3:13: limits.received: expected a whole number; found 1.5',
    'postern.yaml:4:9: limits.idle: expected a duration such as 30s, 5m or 1d; found "5x"',
    'postern.yaml:6:10: log.level: expected one of debug, info, warn, error; found "infoo"; did you mean info?',
    'postern.yaml:7:18: admin.address: expected host:port such as 10.0.0.5:25 or [::1]:25, or off; found "here"',
  ],
)
refused('keys without a value point at the key', 'limits:\nlog:\n  level: # later\n', [
  'postern.yaml:1:1: limits: has no value; give it one or leave it out',
  'postern.yaml:3:3: log.level: has no value; give it one or leave it out',
])
refused('what is missing points at what it is missing from', 'listeners:\n  - kind: mx\nmaildir: {}\n', [
  'postern.yaml:2:5: listeners[0].name: is missing',
  'postern.yaml:2:5: listeners[0].address: is missing',
  'postern.yaml:3:10: maildir.path: is missing',
])
refused('empty lists and texts', 'listeners: []\ndata_dir: ""\n', [
  'postern.yaml:1:12: listeners: must have at least 1 entry; found a list',
  'postern.yaml:2:11: data_dir: must not be empty; found ""',
])
refused('settings that exclude each other', 'backend: {servers: ["a.example:25"]}\nmaildir: {path: x}\n', [
  'postern.yaml:2:10: maildir: give either backend or maildir',
])
refused(
  'problems stand in the order of the file, whoever found them',
  'stroe: 1\ndomains: [a@b.example]\nlimits: {idle: 1}\nroute: 1\n',
  [
    'postern.yaml:1:1: stroe: unknown setting',
    'postern.yaml:2:11: domains[0]: expected a domain such as example.org, not an address; did you mean b.example?; found "a@b.example"',
    'postern.yaml:3:16: limits.idle: expected a duration such as 30s, 5m or 1d; found 1',
    'postern.yaml:4:1: route: unknown setting',
  ],
)
refused(
  'a problem behind an alias points at the value that it stands for',
  'filters: {x: {a: &a 7}}\nlimits: {idle: *a}\n',
  ['postern.yaml:1:21: limits.idle: expected a duration such as 30s, 5m or 1d; found 7'],
)

refused('a list at the top', '- a\n', [
  'postern.yaml:1:1: expected settings such as hostname: mx.example.org, one below the other',
])
refused('a text at the top', '\n  hello\n', [
  'postern.yaml:2:3: expected settings such as hostname: mx.example.org, one below the other',
])
refused('duplicate keys', 'limits:\n  idle: 1m\n  errors: 5\n  idle: 2m\n', [
  'postern.yaml:4:3: idle: this key stands here a second time',
])
refused('duplicate keys in {}', 'log: {level: info, "level": warn}\n', [
  'postern.yaml:1:20: this key stands here a second time',
])
refused('a tab', 'limits:\n\tidle: 1m\n', ['postern.yaml:2:1: a tab in the indentation; YAML wants spaces'])
refused('an IPv6 address without quotes', 'admin:\n  address: [::1]:8025\n', [
  'postern.yaml:2:17: unexpected text; quote the value if it holds any of [ ] { } , : # & * ! | > % @',
])
refused('a second document', 'hostname: a.example\n---\nhostname: b.example\n', [
  'postern.yaml:2:1: a second document begins here (---); the configuration is one document',
])
refused('tags', 'data_dir: !env HOME\n', ['postern.yaml:1:11: a value that begins with ! must be quoted'])
refused('keys that are no text', '? [a]\n: b\n', ['postern.yaml:1:3: a key must be plain text'])
refused('merge keys are keys like others', 'limits: {<<: {idle: 1m}}\n', [
  'postern.yaml:1:10: limits."<<": unknown setting',
])
refused('one slip is one problem, though the parser stumbles three times', 'plugins: [{a: [}\n', [
  'postern.yaml:1:16: Flow sequence in block collection must be sufficiently indented and end with a ]',
])
test('a file that is something else does not fill the screen', () => {
  const shown = problemsOf({ text: 'a: [}\n'.repeat(500) })
  assert.equal(shown.length, 21)
  assert.equal(shown[20], 'and 480 more')
})

for (const name of ['__proto__', 'constructor', 'prototype']) {
  refused(`${name} is no name`, `${name}: {a: 1}\nfilters: {x: {${name}: 1}}\n`, [
    `postern.yaml:1:1: ${name} cannot be the name of a setting`,
    `postern.yaml:2:15: ${name} cannot be the name of a setting`,
  ])
}
for (const name of ['toString', 'hasOwnProperty', '__defineGetter__']) {
  refused(`${name} is unknown like any other`, `${name}: 1\n`, [`postern.yaml:1:1: ${name}: unknown setting`])
}

refused('an alias to nothing', 'data_dir: *hunter2\n', [
  'postern.yaml:1:11: an alias to an anchor that is not there; a value that begins with * must be quoted',
])
refused('an alias to itself', 'filters: &f {a: *f}\n', ['postern.yaml:1:17: an alias inside its own anchor'])
test('aliases that multiply are refused before they grow', () => {
  const levels = [...'bcdefghi'].map((name, at) => `  ${name}: &${name} [${`*${'abcdefgh'[at]},`.repeat(9)}]`)
  assert.deepEqual(problemsOf({ text: `filters:\n  a: &a [x]\n${levels.join('\n')}\n` }), [
    'postern.yaml:1:1: too many aliases of aliases',
  ])
  assert.deepEqual(problemsOf({ text: `filters: {a: &a {}, b: {c: [${'*a,'.repeat(101)}]}}\n` }), [
    'postern.yaml:1:329: more than 100 aliases',
  ])
})
test('nesting without end is refused', () => {
  const [first] = problemsOf({ text: `filters: {a: ${'['.repeat(50_000)}` })
  assert.match(first ?? '', /^postern\.yaml:1:\d+: nested too deeply$/)
})

test('values that may be secret are not repeated', () => {
  const texts = [
    'log: {level: {password: hunter2}}',
    'log: {password: hunter2}',
    'log: password:hunter2',
    'log: {"password:hunter2": 1}',
    'log: redis://user:hunter2@redis.example/0',
    'filters: {api_key: hunter2}',
    'filters: {x: {password: *hunter2}}',
    'filters: {x: {password: !hunter2 x}}',
    'filters: {x: {password: "\\hunter2"}}',
    'filters: {x: {password: |hunter2\n}}',
    'filters: {x: {password: @hunter2}}',
    'filters: {x: {password: hunter2: 1}}',
  ]
  for (const text of texts) assert.doesNotMatch(problemsOf({ text }).join('\n'), /hunter2/, text)
})

test('values are shown short and without control characters', () => {
  const shown = problemsOf({
    text: `hostname: "\\e[2J\\u202e\\x9b\\u2028"\ndata_dir: [${'x'.repeat(500)}]\nlog: ${'y'.repeat(500)}\n`,
  })
  assert.equal(
    shown[0],
    'postern.yaml:1:11: hostname: expected a host name; found "\\u001b[2J\\u{202e}\\u{9b}\\u{2028}"',
  )
  assert.ok(shown.every((line) => line.length < 200))
})

test('a file is named as the operator named it, and lists are found beside it', (t) => {
  const base = folder(t)
  const path = join(base, 'my.yaml')
  writeFileSync(join(base, 'domains.txt'), '# ours\na.example\n')
  writeFileSync(path, 'domains: [first.example, "file:domains.txt"]\n')
  const loaded = loadConfig({ path, env: {} })
  assert.deepEqual(loaded.config.domains, ['first.example', 'a.example'])
  assert.equal(loaded.file, path)
  assert.equal(loaded.baseDir, base)
  assert.equal(loaded.where(['domains', 0]), `${path}:1:11`)
})

test('without a name postern.yaml of the working directory is read, if there is one', (t) => {
  const base = folder(t)
  const before = process.cwd()
  t.after(() => process.chdir(before))
  process.chdir(base)
  const without = loadConfig({ env: {} })
  assert.deepEqual([without.file, without.baseDir, without.config.domains], [undefined, process.cwd(), []])
  writeFileSync('postern.yaml', 'domains: [a.example]\n')
  const loaded = loadConfig({ env: {} })
  assert.deepEqual([loaded.file, loaded.baseDir, loaded.config.domains], ['postern.yaml', process.cwd(), ['a.example']])
})

test('wrong lines of a list are named by the list', (t) => {
  const base = folder(t)
  writeFileSync(join(base, 'domains.txt'), '# ours\na.example\n\nuser@b.example\n')
  assert.deepEqual(
    problemsOf({ path: join(base, 'my.yaml'), text: 'domains: ["file:domains.txt", "file:none.txt"]\n' }),
    [
      'domains.txt:4: domains[0]: expected a domain such as example.org, not an address; did you mean b.example?; found "user@b.example"',
      `${base}/my.yaml:1:31: domains[1]: ${base}/none.txt: there is no such file`,
    ],
  )
})

test('a named file must be there and must be a text of at most 4 MiB', (t) => {
  const base = folder(t)
  const none = join(base, 'none.yaml')
  assert.deepEqual(problemsOf({ path: none }), [
    `${none}: there is no such file; name another with -c, or make it: an empty file means all defaults`,
  ])
  assert.deepEqual(problemsOf({ path: base }), [`${base}: this is a folder, not a file`])
  const big = join(base, 'big.yaml')
  writeFileSync(big, '#'.repeat(4 * 1024 ** 2 + 1))
  assert.deepEqual(problemsOf({ path: big }), [`${big}: larger than 4 MiB`])
  writeFileSync(big, '#'.repeat(4 * 1024 ** 2))
  assert.equal(loadConfig({ path: big, env: {} }).file, big)
  writeFileSync(big, Uint8Array.of(0xff, 0xfe, 0x61, 0x00))
  assert.deepEqual(problemsOf({ path: big }), [`${big}: not a text in UTF-8`])
})

test('a ConfigError has its problems one by one', () => {
  assert.throws(
    () => load('log: {level: x}\n'),
    (error) => {
      assert.ok(error instanceof ConfigError)
      assert.deepEqual(error.problems, [
        {
          where: 'postern.yaml:1:14',
          path: 'log.level',
          message: 'expected one of debug, info, warn, error; found "x"',
        },
      ])
      return true
    },
  )
})

test('where() finds what was written, or the nearest section around it', () => {
  const { where } = load('filters:\n  dnsbl:\n    lists:\n      - zone: a.example\n        weight: 4\n  spf:\n')
  assert.equal(where(['filters', 'dnsbl', 'lists', 0, 'weight']), 'postern.yaml:5:17')
  assert.equal(where(['filters', 'dnsbl', 'lists', 0, 'weight'], 'key'), 'postern.yaml:5:9')
  assert.equal(where(['filters', 'dnsbl', 'lists', 7]), 'postern.yaml:4:7')
  assert.equal(where(['filters', 'dnsbl', 'timeout', 'x']), 'postern.yaml:3:5')
  assert.equal(where(['filters', 'spf']), 'postern.yaml:6:3')
  assert.equal(where(['limits', 'idle']), undefined)
  assert.equal(where([]), undefined)
})
