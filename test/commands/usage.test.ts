// How the command is called, and what its exit status says about a wrong call.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { folder, postern } from './postern.ts'

const USAGE = 64

for (const args of [[], ['rnu'], ['--nonsense'], ['run', '--nonsense'], ['check', '-c'], ['demo', 'more']]) {
  test(`postern ${args.join(' ')}: status 64, and a way on`, async (t) => {
    const { status, stdout, stderr } = await postern(t, folder(t), args)
    assert.equal(status, USAGE)
    assert.equal(stdout, '')
    assert.match(stderr, args.length === 0 ? /Commands:\n +run/ : /^error: .*--help/s)
  })
}

test('a misspelt command is corrected', async (t) => {
  const { stderr } = await postern(t, folder(t), ['rnu'])
  assert.match(stderr, /Did you mean run\?/)
})

test('--version says the version of the package', async (t) => {
  const { status, stdout } = await postern(t, folder(t), ['--version'])
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  assert.deepEqual([status, stdout], [0, `${version}\n`])
})

test('--help names every command', async (t) => {
  const { status, stdout } = await postern(t, folder(t), ['--help'])
  assert.equal(status, 0)
  for (const name of ['run', 'check', 'demo']) assert.match(stdout, new RegExp(`^ +${name} `, 'm'))
})

for (const [name, option] of [
  ['run', '--config'],
  ['check', '--config'],
  ['demo', '--once'],
] as const) {
  test(`${name} --help explains ${option}`, async (t) => {
    const { status, stdout } = await postern(t, folder(t), [name, '--help'])
    assert.equal(status, 0)
    assert.ok(stdout.includes(option))
  })
}
