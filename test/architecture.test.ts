// The layer table of the design and the size of files, enforced. A file imports only from its own row's list, types and values alike.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const SRC = fileURLToPath(new URL('../src/', import.meta.url))
const LINES_MAX = 350

// What each layer may import beside itself. A name with a slash is one file of a layer.
const LAYERS = new Map<string, readonly string[]>([
  ['net', []],
  ['smtp', ['net/ip']],
  ['message', ['net/ip']],
  ['content', ['message', 'net/ip']],
  ['store', ['net']],
  ['auth', ['net', 'message']],
  ['bayes', ['net', 'message']],
  ['rules', ['net', 'message']],
  ['scan', ['message', 'content', 'bayes', 'rules', 'auth', 'net']],
  ['observe', []],
  // A recipient is an address: the contract of a filter speaks of both.
  ['filter', ['smtp/reply', 'smtp/address', 'message', 'net', 'observe/events']],
  ['filters', ['filter', 'message', 'net', 'smtp/address', 'smtp/reply', 'store', 'auth', 'bayes', 'rules']],
  ['proxy', ['smtp', 'message', 'net', 'filter', 'observe']],
  ['config', []],
])

// The composition root and the commands know everything; nobody imports them.
const TOP = /^(?:commands\/.*|[a-z-]+)\.ts$/

function sources(dir = SRC): string[] {
  return readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
    const path = join(dir, entry.name)
    if (entry.isDirectory()) return sources(path)
    return entry.name.endsWith('.ts') ? [relative(SRC, path)] : []
  })
}

function importsOf(file: string): string[] {
  const text = readFileSync(join(SRC, file), 'utf8')
  const found = [...text.matchAll(/(?:from|import\()\s*'(\.{1,2}\/[^']+)'/g)]
  return found.map((match) => relative(SRC, join(SRC, dirname(file), match[1] ?? '')))
}

function mayImport(file: string, target: string): boolean {
  const layer = file.split('/')[0] ?? ''
  if (TOP.test(file)) return true
  if (TOP.test(target)) return false
  // One filter never knows another.
  if (layer === 'filters' && target.startsWith('filters/'))
    return dirname(target) === dirname(file) && dirname(file) !== 'filters'
  if (target.startsWith(`${layer}/`)) return true
  const allowed = LAYERS.get(layer) ?? []
  return allowed.some((a) => target === `${a}.ts` || target.startsWith(`${a}/`))
}

test('every source file belongs to a layer of the table', () => {
  for (const file of sources()) {
    assert.ok(TOP.test(file) || LAYERS.has(file.split('/')[0] ?? ''), `${file} is in no layer of the design`)
  }
})

test('imports keep to the layer table', () => {
  const wrong = sources().flatMap((file) =>
    importsOf(file)
      .filter((target) => !mayImport(file, target))
      .map((target) => `${file} imports ${target}`),
  )
  assert.deepEqual(wrong, [])
})

test('the check itself sees a violation', () => {
  assert.equal(mayImport('smtp/reply.ts', 'proxy/session.ts'), false)
  assert.equal(mayImport('filters/networks.ts', 'filters/dnsbl.ts'), false)
  assert.equal(mayImport('proxy/session.ts', 'app.ts'), false)
  assert.equal(mayImport('proxy/session.ts', 'filters/networks.ts'), false)
  assert.equal(mayImport('proxy/session.ts', 'filter/chain.ts'), true)
})

test(`no source file is longer than ${LINES_MAX} lines`, () => {
  const long = sources()
    .map((file) => ({ file, lines: readFileSync(join(SRC, file), 'utf8').split('\n').length - 1 }))
    .filter(({ lines }) => lines > LINES_MAX)
  assert.deepEqual(long, [])
})

test('every source file begins by saying what it is for', () => {
  for (const file of sources()) {
    const text = readFileSync(join(SRC, file), 'utf8')
    assert.match(text, /^(?:#!.*\n)?\/\/ \S/, `${file} has no first lines`)
  }
})

test('mailauth is imported by one file only', () => {
  const users = sources().filter((file) => /from 'mailauth/.test(readFileSync(join(SRC, file), 'utf8')))
  assert.ok(
    users.every((file) => file === 'auth/mailauth.ts'),
    users.join(', '),
  )
})
