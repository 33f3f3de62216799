// The networks filter: which list counts, and what its options may be.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { loadConfig } from '../../src/config/load.ts'
import { ConfigError } from '../../src/config/problem.ts'
import type { StageResult } from '../../src/filter/chain.ts'
import { FactBoard } from '../../src/filter/context.ts'
import { networks } from '../../src/filters/networks.ts'
import { type AnyFilterDefinition, installFilters } from '../../src/install-filters.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { FakeLog } from '../support/fake-log.ts'
import { bench, session } from '../support/filters.ts'

const table = [{ definition: networks as AnyFilterDefinition, enabled: true }]

async function asked(options: string, address: string, path = 'postern.yaml') {
  const loaded = loadConfig({ text: `filters: {networks: ${options}}\n`, path, env: {} })
  const filters = await installFilters({ loaded, table, clock: new FakeClock(), log: new FakeLog() })
  const rig = bench(filters)
  const facts = new FactBoard()
  const client = { ...session, client: { address, port: 25 } }
  return { result: await rig.chain.connect(client, facts, rig.log).result, facts }
}

async function problems(options: string): Promise<string> {
  try {
    await asked(options, '192.0.2.1')
  } catch (error) {
    if (error instanceof ConfigError) return error.message
    throw error
  }
  return assert.fail('the options were taken')
}

function summary(result: StageResult): readonly unknown[] {
  return [result.found.map((f) => `${f.finding.symbol} ${f.finding.detail}`), result.trusted, result.decided?.verdict]
}

test('all lists are empty by default: nobody is known, loopback included', async () => {
  for (const address of ['192.0.2.1', '127.0.0.1', '::1']) {
    const { result, facts } = await asked('{}', address)
    assert.deepEqual(summary(result), [[], false, undefined])
    assert.equal(facts.get('knownNetwork'), undefined)
  }
})

test('allow trusts with a finding, skip without one; both say so on the board', async () => {
  const options = '{allow: [192.0.2.0/24], skip: [198.51.100.7, "2001:db8::/32"]}'
  const allowed = await asked(options, '192.0.2.200')
  assert.deepEqual(summary(allowed.result), [['NETWORK_ALLOW 192.0.2.0/24'], true, undefined])
  assert.equal(allowed.facts.get('knownNetwork'), '192.0.2.0/24')
  for (const [address, entry] of [
    ['198.51.100.7', '198.51.100.7'],
    ['2001:db8::9', '2001:db8::/32'],
  ] as const) {
    const skipped = await asked(options, address)
    assert.deepEqual(summary(skipped.result), [[], true, undefined])
    assert.equal(skipped.facts.get('knownNetwork'), entry)
  }
})

test('deny refuses, and names the entry for us and not for the stranger', async () => {
  const { result } = await asked('{deny: ["2001:db8::/32"]}', '2001:db8:7::1')
  assert.equal(result.trusted, false)
  assert.deepEqual(result.found[0]?.finding, { symbol: 'NETWORK_DENY', detail: '2001:db8::/32' })
  const verdict = result.decided?.verdict
  assert.equal(verdict?.kind, 'reject')
  assert.match(verdict.reason, /2001:db8:7::1 is in deny \(2001:db8::\/32\)/)
  assert.deepEqual([verdict.reply?.code, verdict.reply?.enhanced], [550, [7, 1]])
  assert.doesNotMatch(verdict.reply?.lines.join() ?? '', /2001|deny/)
})

test('of the lists allow counts before skip and skip before deny', async () => {
  const all = '[192.0.2.0/24]'
  const first = await asked(`{deny: ${all}, skip: ${all}, allow: ${all}}`, '192.0.2.1')
  assert.deepEqual(summary(first.result), [['NETWORK_ALLOW 192.0.2.0/24'], true, undefined])
  const second = await asked(`{deny: ${all}, skip: [192.0.2.1]}`, '192.0.2.1')
  assert.deepEqual(summary(second.result), [[], true, undefined])
})

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'postern-networks-'))
  t.after(() => rmSync(path, { recursive: true }))
  return path
}

test('a list may stand in a file of its own', async (t) => {
  const dir = folder(t)
  writeFileSync(join(dir, 'deny.txt'), '# bad ones\n192.0.2.0/25\n\n198.51.100.0/24 # all of it\n')
  const path = join(dir, 'postern.yaml')
  const { result } = await asked('{deny: ["file:deny.txt"]}', '198.51.100.1', path)
  assert.equal(result.decided?.filter, 'networks')
  assert.equal((await asked('{deny: ["file:deny.txt"]}', '192.0.2.200', path)).result.decided, undefined)
})

test('a wrong entry is told with its place', async (t) => {
  const dir = folder(t)
  writeFileSync(join(dir, 'deny.txt'), '192.0.2.0/24\n192.0.2.0/33\nexample.org\n')
  assert.match(await problems('{deny: [192.0.2.0/33]}'), /postern.yaml:1.*192.0.2.0\/33.*prefix/)
  assert.match(await problems('{allow: [localhost]}'), /'localhost' is not an address or a network/)
  assert.match(await problems('{skip: ["file:/nowhere/list.txt"]}'), /\/nowhere\/list.txt/)
  const listed = await problems(`{deny: ["file:${join(dir, 'deny.txt')}"]}`)
  assert.match(listed, /deny.txt:2: .*192.0.2.0\/33/)
  assert.match(listed, /deny.txt:3: .*example.org/)
})

test('an unknown option is told with the one that was meant', async () => {
  assert.match(await problems('{alow: []}'), /^postern.yaml:1:\d+: filters.networks.alow: .*did you mean allow/)
  assert.match(await problems('{deny: 192.0.2.1}'), /^postern.yaml:1:\d+: filters.networks.deny: /)
})
