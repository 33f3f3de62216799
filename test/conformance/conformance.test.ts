// The whole case file against the gateway, and the runner as a command: what it prints and how it ends.
// Bound to real time by its nature: several cases wait for a deadline of the gateway.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'

const RUNNER = fileURLToPath(new URL('./run.ts', import.meta.url))
const RUDE_GATEWAY = fileURLToPath(new URL('../support/rude-gateway.ts', import.meta.url))
const CASES = 135

interface Outcome {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

interface Results {
  readonly cases: readonly { readonly id: string; readonly status: string; readonly reason?: string }[]
  readonly summary: { readonly pass: number; readonly fail: number; readonly waits: number }
}

let folder = ''
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'postern-conformance-test-'))
})
after(() => rm(folder, { recursive: true, force: true }))

function run(...argv: string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const options = { maxBuffer: 64 * 1024 * 1024 }
    const child = execFile(process.execPath, [RUNNER, ...argv], options, (_, stdout, stderr) => {
      resolve({ status: child.exitCode ?? -1, stdout, stderr })
    })
  })
}

/** Runs cases written in the test; `{greet}` and other preludes come from the standard file. */
async function runInline(cases: string, ...argv: string[]): Promise<{ status: number; results: Results }> {
  const file = join(folder, `${Math.random().toString(36).slice(2)}.yaml`)
  await writeFile(file, `version: 1\ncases:\n${cases}`)
  const { status, stdout, stderr } = await run('--cases', file, '--json', ...argv)
  assert.match(stdout, /^\{/, stderr)
  return { status, results: JSON.parse(stdout) }
}

function inlineCase(id: string, fields: string): string {
  return `- {id: ${id}, title: t, area: test, profile: mx, strength: must, ${fields}}\n`
}

test('the gateway passes every case that does not wait for a feature', { timeout: 600_000 }, async () => {
  const { status, stdout, stderr } = await run('--jobs', '4', '--json')
  assert.match(stdout, /^\{/, stderr)
  const { cases, summary }: Results = JSON.parse(stdout)
  const failed = cases.filter((one) => one.status === 'fail').map((one) => `${one.id}: ${one.reason}`)
  assert.deepEqual(failed, [])
  assert.equal(cases.length, CASES)
  assert.equal(summary.pass + summary.waits, CASES)
  assert.equal(status, 0)
})

test('an unknown step, check, setting, rule or prelude makes the case an error', async () => {
  const wrong = [
    ['X-1', 'steps: [{use: greet}, {expect_magic: "^250"}]', /^error: unknown step expect_magic/],
    ['X-2', 'steps: [{use: greet}], check: {backend: {msgs: 1}}', /^error: check: unknown key backend\.msgs/],
    ['X-3', 'steps: [{use: greet}], proxy: {max_speed: 1}', /^error: proxy: unknown key max_speed/],
    ['X-4', 'steps: [{use: greet}], backend: [{at: NOON, do: drop}]', /^error: backend: /],
    ['X-5', 'steps: [{use: nowhere}]', /^error: step 1: unknown prelude nowhere/],
    ['X-6', 'steps: [{send: "$' + '{NOBODY}"}]', /^error: unknown variable \$\{NOBODY\}/],
    ['X-7', 'steps: [{expect: "("}]', /^error: step 1 \(expect\): not a regular expression/],
    ['X-8', 'steps: [{use: greet}], colour: blue', /^error: unknown key colour/],
    ['X-9', 'steps: [{send: a, expect: b}]', /^error: step 1 does several things/],
  ] as const
  const { status, results } = await runInline(wrong.map(([id, fields]) => inlineCase(id, fields)).join(''))
  assert.equal(status, 1)
  for (const [id, , reason] of wrong) {
    const result = results.cases.find((one) => one.id === id)
    assert.equal(result?.status, 'fail', id)
    assert.match(result?.reason ?? '', reason)
  }
})

test('a file that is not YAML, has no cases or is not there ends with 64', async () => {
  const file = join(folder, 'broken.yaml')
  await writeFile(file, 'cases: [{id: "unclosed}]\n')
  const notYaml = await run('--cases', file)
  assert.equal(notYaml.status, 64)
  assert.match(notYaml.stderr, /not YAML/)
  await writeFile(file, 'version: 1\n')
  assert.equal((await run('--cases', file)).status, 64)
  assert.equal((await run('--cases', join(folder, 'absent.yaml'))).status, 64)
})

test('a wrong command line ends with 64', async () => {
  assert.equal((await run('--jobs', '0')).status, 64)
  assert.equal((await run('--only', 'NO-SUCH-CASE')).status, 64)
  assert.equal((await run('--colour')).status, 64)
})

test('a case that waits is reported and not run', async () => {
  const { status, results } = await runInline(
    inlineCase('W-1', 'proxy: {dns: {"a.example": "MX 0 ."}}, steps: [{expect: "^never looked at"}]'),
  )
  assert.equal(status, 0)
  assert.deepEqual(results.summary, { pass: 0, fail: 0, waits: 1 })
  assert.match(results.cases[0]?.reason ?? '', /^waits for issue 4, because/)
})

test('against a gateway that breaks the rules, cases fail though their own expectations are met', async () => {
  const dialogue = (command: string) => `steps: [{use: ehlo}, {send: "${command}\\r\\n"}, {expect: "^2"}]`
  const cases = [
    ['I-1', dialogue('NOOP'), /class 5 in a 250 reply/],
    ['I-2', dialogue('VRFY x'), /bare LF/],
    ['I-3', dialogue('RSET'), /reply 250 to no command/],
    ['I-4', dialogue('HELP'), /codes 214 and 250/],
    [
      'I-5',
      'steps: [{use: data}, {send: "Subject: s\\r\\n\\r\\nx\\r\\n.\\r\\n"}, {expect: "^250"}]',
      /backend has not accepted/,
    ],
  ] as const
  const { status, results } = await runInline(
    cases.map(([id, fields]) => inlineCase(id, fields)).join(''),
    '--gateway',
    RUDE_GATEWAY,
  )
  assert.equal(status, 1)
  for (const [id, , reason] of cases) {
    const result = results.cases.find((one) => one.id === id)
    assert.equal(result?.status, 'fail', id)
    assert.match(result?.reason ?? '', reason)
    assert.match(result?.reason ?? '', /^invariant: /)
  }
})
