// The spool folder: swept of what a crash left, and asked whether a message fits beside the reserve.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { ConfigError } from '../src/config/problem.ts'
import { prepareSpool, roomChecker, sweepSpool } from '../src/spool.ts'
import { FakeClock } from './support/fake-clock.ts'
import { FakeLog } from './support/fake-log.ts'

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'postern-spool-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

test('the folder is made with all that is missing above it', async (t) => {
  const dir = join(folder(t), 'a', 'spool')
  assert.equal(await prepareSpool(dir), dir)
  assert.deepEqual(readdirSync(dir), [])
  await prepareSpool(dir)
})

test('a folder that cannot be made is a problem of data_dir', async (t) => {
  const dir = folder(t)
  writeFileSync(join(dir, 'file'), '')
  await assert.rejects(
    prepareSpool(join(dir, 'file', 'spool')),
    (error) => error instanceof ConfigError && /^data_dir: .*spool cannot be used: /.test(error.message),
  )
})

test('messages that a crash left are swept, and nothing else', async (t) => {
  const dir = folder(t)
  for (const name of ['a.msg', 'b.msg', 'msg', 'c.msg.txt']) writeFileSync(join(dir, name), '')
  mkdirSync(join(dir, 'd'))
  await sweepSpool(dir)
  assert.deepEqual(readdirSync(dir).toSorted(), ['c.msg.txt', 'd', 'msg'])
})

test('there is room for what fits beside the reserve', async (t) => {
  const [dir, clock, log] = [folder(t), new FakeClock(), new FakeLog()]
  const none = roomChecker({ dir, reserve: Number.MAX_SAFE_INTEGER, clock, log })
  assert.equal(await none(0), false)
  const some = roomChecker({ dir, reserve: 0, clock, log })
  assert.deepEqual([await some(0), await some(Number.MAX_SAFE_INTEGER)], [true, false])
  assert.deepEqual(log.entries, [])
})

test('a disk that cannot be asked is full, and the log says so; it is asked again after two seconds', async (t) => {
  const [dir, clock, log] = [join(folder(t), 'spool'), new FakeClock(), new FakeLog()]
  const room = roomChecker({ dir, reserve: 0, clock, log })
  assert.equal(await room(1), false)
  assert.equal(log.texts('error').length, 1)
  mkdirSync(dir)
  assert.equal(await room(1), false, 'the answer is kept for two seconds')
  await clock.advance(2001)
  assert.equal(await room(1), true)
  assert.equal(log.texts('error').length, 1)
})
