// The Maildir as a backend: a message is there as a whole and on the disk before anybody is told so, or it is not there at all.
import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { BackendError, type Envelope, type Parcel } from '../../src/proxy/destination.ts'
import { MaildirDestination } from '../../src/proxy/maildir-destination.ts'
import { type Address, parsePath } from '../../src/smtp/address.ts'
import { FakeClock } from '../support/fake-clock.ts'

function address(text: string): Address {
  const parsed = parsePath(`<${text}>`, true)
  if (parsed.kind === 'error' || parsed.address === null) return assert.fail(`no address: ${text}`)
  return parsed.address
}

function maildir(t: TestContext, name = 'mail'): { destination: MaildirDestination; path: string } {
  const dir = mkdtempSync(join(tmpdir(), 'postern-maildir-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const path = join(dir, name)
  return { destination: new MaildirDestination({ path, hostname: 'mx/1:a', clock: new FakeClock() }), path }
}

function parcel(text: string, options: { wanted?: boolean; fails?: boolean } = {}): Parcel {
  return {
    id: 'S1.1',
    async *content() {
      for (const line of text.split(/(?<=\r\n)/)) yield Buffer.from(line, 'latin1')
      if (options.fails) throw new Error('the spool is gone')
    },
    wanted: () => options.wanted ?? true,
  }
}

const ENVELOPE: Envelope = { reversePath: address('sender@example.net'), parameters: {} }

async function deliver(destination: MaildirDestination, to: readonly string[], what: Parcel, envelope = ENVELOPE) {
  await destination.learn()
  const tx = destination.open(envelope)
  await tx.mail()
  for (const one of to) await tx.rcpt({ address: address(one), parameters: {} })
  return tx.deliver(what)
}

function filesIn(path: string): string[] {
  return ['tmp', 'new', 'cur'].flatMap((part) => readdirSync(join(path, part)).map((name) => `${part}/${name}`))
}

test('before it was asked for nothing is announced; then what a Maildir can', async (t) => {
  const { destination, path } = maildir(t, 'a/b/mail')
  assert.equal(destination.offer(), undefined)
  await destination.learn()
  const offer = destination.offer()
  assert.deepEqual([offer?.eightBitMime, offer?.smtpUtf8, offer?.dsn], [true, true, false])
  assert.deepEqual(readdirSync(path).toSorted(), ['cur', 'new', 'tmp'])
  assert.equal(statSync(path).mode & 0o077, 0)
  await destination.learn()
})

test('a message stands in new/, octet by octet, with Return-Path and Delivered-To', async (t) => {
  const { destination, path } = maildir(t)
  const text = 'Subject: a\r\n\r\n.dot\r\n\xff\r\n'
  const delivered = await deliver(destination, ['user@example.org'], parcel(text))
  assert.equal(delivered.kind, 'answered')
  const [file, ...others] = filesIn(path)
  assert.deepEqual(others, [])
  // The name of the host may not make folders or flags.
  assert.match(file ?? '', /^new\/1772366400\.P\d+R[0-9a-f]{20}\.mx_1_a$/)
  assert.equal(statSync(join(path, file ?? '')).mode & 0o077, 0)
  const stored = readFileSync(join(path, file ?? ''), 'latin1')
  assert.equal(stored, `Return-Path: <sender@example.net>\r\nDelivered-To: user@example.org\r\n${text}`)
  assert.ok(delivered.kind === 'answered' && delivered.reply.code === 250)
})

test('several recipients are not told of each other; a bounce has an empty Return-Path', async (t) => {
  const { destination, path } = maildir(t)
  const envelope = { ...ENVELOPE, reversePath: null }
  await deliver(destination, ['a@example.org', 'b@example.org'], parcel('x\r\n'), envelope)
  assert.equal(readFileSync(join(path, filesIn(path)[0] ?? ''), 'latin1'), 'Return-Path: <>\r\nx\r\n')
})

test('two messages in one second have two names', async (t) => {
  const { destination, path } = maildir(t)
  await Promise.all([1, 2, 3].map(() => deliver(destination, ['user@example.org'], parcel('x\r\n'))))
  assert.equal(filesIn(path).length, 3)
})

test('a client that is gone before the commit leaves nothing behind', async (t) => {
  const { destination, path } = maildir(t)
  const delivered = await deliver(destination, ['user@example.org'], parcel('x\r\n', { wanted: false }))
  assert.deepEqual([delivered.kind, filesIn(path)], ['withdrawn', []])
})

test('an abort before the commit leaves nothing behind', async (t) => {
  const { destination, path } = maildir(t)
  await destination.learn()
  const tx = destination.open(ENVELOPE)
  const aborting: Parcel = {
    ...parcel(''),
    async *content() {
      yield Buffer.from('x')
      tx.abort()
    },
  }
  const delivered = await tx.deliver(aborting)
  assert.deepEqual([delivered.kind, filesIn(path)], ['withdrawn', []])
  tx.abort()
})

test('content that fails half way is a failure of storage, and leaves nothing behind', async (t) => {
  const { destination, path } = maildir(t)
  const delivered = await deliver(destination, ['user@example.org'], parcel('x\r\n', { fails: true }))
  assert.ok(delivered.kind === 'failed' && delivered.error.fault === 'storage')
  assert.deepEqual(filesIn(path), [])
})

test('a folder that went away is a failure of storage', async (t) => {
  const { destination, path } = maildir(t)
  await destination.learn()
  rmSync(join(path, 'tmp'), { recursive: true })
  const tx = destination.open(ENVELOPE)
  const delivered = await tx.deliver(parcel('x\r\n'))
  assert.ok(delivered.kind === 'failed' && delivered.error.fault === 'storage')
})

test('a message that cannot be moved to new/ is a failure, and is not left in tmp/', async (t) => {
  const { destination, path } = maildir(t)
  await destination.learn()
  rmSync(join(path, 'new'), { recursive: true })
  const delivered = await destination.open(ENVELOPE).deliver(parcel('x\r\n'))
  assert.ok(delivered.kind === 'failed' && delivered.error.fault === 'storage')
  assert.deepEqual(readdirSync(join(path, 'tmp')), [])
})

test('a path that cannot be made is told when it is asked for', async (t) => {
  const { path } = maildir(t)
  writeFileSync(path, 'a file')
  const destination = new MaildirDestination({ path: join(path, 'below'), hostname: 'mx', clock: new FakeClock() })
  await assert.rejects(destination.learn(), (error) => error instanceof BackendError && error.fault === 'storage')
  assert.equal(destination.offer(), undefined)
  chmodSync(path, 0o600)
})
