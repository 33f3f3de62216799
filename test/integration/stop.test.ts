// How the process ends, and what is left behind: SIGTERM lets a message that is coming in finish, SIGKILL loses and doubles nothing, since
// there is no queue (P1): what was not answered 250 is still the sender's.
import assert from 'node:assert/strict'
import { mkdtemp, readdir, readlink, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { HarnessEvents } from '../conformance/backend-record.ts'
import { FakeBackend } from '../conformance/fake-backend.ts'
import type { Gateway } from '../conformance/gateway.ts'
import { DOMAIN, readMaildir, spoolOf, startGateway } from '../support/gateway.ts'
import { Talk } from '../support/talk.ts'

const STOPPED = /^421 4\.3\.2 /
const MAIL = 'MAIL FROM:<sender@example.net>\r\n'
const RCPT = `RCPT TO:<user@${DOMAIN}>\r\n`
const LINES = `${'x'.repeat(70)}\r\n`.repeat(4000)

let folder = ''
let places = 0
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'postern-stop-'))
})
after(() => rm(folder, { recursive: true, force: true }))

interface Scene {
  readonly backend: FakeBackend
  readonly place: string
  start(limits?: Record<string, unknown>): Promise<Gateway>
}

async function scene(t: TestContext): Promise<Scene> {
  places++
  const place = join(folder, String(places))
  const certificate = () => Promise.reject(new Error('no TLS here'))
  const backend = await FakeBackend.listen({ rules: [], auth: false, events: new HarnessEvents(), certificate })
  t.after(() => backend.close())
  const start = async (limits: Record<string, unknown> = {}): Promise<Gateway> => {
    const gateway = await startGateway({ folder: place, backendPort: backend.port, config: { limits } })
    t.after(() => gateway.end('KILL'))
    return gateway
  }
  return { backend, place, start }
}

async function insideData(port: number): Promise<Talk> {
  const talk = await Talk.greeted(port)
  await talk.ask(MAIL, '250')
  await talk.ask(RCPT, '250')
  await talk.ask('DATA\r\n', '354')
  talk.send('Subject: half\r\n\r\nthe first half\r\n')
  return talk
}

function refusesConnections(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('error', () => resolve(true))
    socket.once('connect', () => {
      socket.destroy()
      resolve(false)
    })
  })
}

test('SIGTERM: idle sessions hear 421, a message that is coming in gets its 250, the status is 0', async (t) => {
  const { backend, place, start } = await scene(t)
  const gateway = await start()
  const idle = [await Talk.open(gateway.port), await Talk.greeted(gateway.port), await Talk.greeted(gateway.port)]
  await idle[2]?.ask(MAIL, '250')
  await idle[2]?.ask(RCPT, '250')
  const busy = await insideData(gateway.port)
  const end = gateway.end('TERM')
  for (const talk of idle) {
    const [last, ...more] = await talk.rest()
    assert.match(last ?? '', STOPPED)
    assert.deepEqual(more, [])
  }
  assert.equal(await refusesConnections(gateway.port), true)
  busy.send('the second half\r\n.\r\n')
  const [taken, goodbye, ...more] = await busy.rest()
  assert.match(taken ?? '', /^250 /)
  assert.match(goodbye ?? '', STOPPED)
  assert.deepEqual(more, [])
  assert.equal(await end, 0)
  assert.equal(backend.record.messages.length, 1)
  assert.match(backend.record.messages[0]?.content.toString() ?? '', /the first half\r\nthe second half\r\n$/)
  assert.deepEqual(await readdir(spoolOf(place)), [])
})

test('SIGTERM with nobody there ends at once with 0', async (t) => {
  const { start } = await scene(t)
  const gateway = await start()
  assert.equal(await gateway.end('TERM'), 0)
  assert.match(gateway.log, /"msg":"stopped"/)
})

test('a message that does not come in within the grace hears 421, the backend hears nothing, the status is 0', async (t) => {
  const { backend, start } = await scene(t)
  const gateway = await start({ stop_grace: '200ms' })
  const stalled = await insideData(gateway.port)
  const end = gateway.end('TERM')
  const [last, ...more] = await stalled.rest()
  assert.match(last ?? '', STOPPED)
  assert.deepEqual(more, [])
  assert.equal(await end, 0)
  assert.deepEqual(backend.record.messages, [])
})

test('a second signal does not wait for the message', async (t) => {
  const { backend, start } = await scene(t)
  const gateway = await start()
  const [idle, busy] = [await Talk.greeted(gateway.port), await insideData(gateway.port)]
  const first = gateway.end('TERM')
  assert.match((await idle.rest())[0] ?? '', STOPPED)
  const second = gateway.end('TERM')
  assert.deepEqual(await busy.rest(), [])
  assert.deepEqual([await first, await second], [1, 1])
  assert.deepEqual(backend.record.messages, [])
})

const needsProc = process.platform === 'linux' ? false : 'there is no /proc to see the open spool file in'

test('SIGKILL inside a message on disk: nothing stays, the next start takes it once', {
  skip: needsProc,
}, async (t) => {
  const { backend, place, start } = await scene(t)
  const gateway = await start({ memory_per_message: '1KiB' })
  const talk = await insideData(gateway.port)
  talk.send(LINES)
  await untilSpooled(gateway)
  assert.equal(await gateway.end('KILL'), 'SIGKILL')
  assert.deepEqual(await talk.rest(), [])
  assert.deepEqual(await readdir(spoolOf(place)), [])
  assert.deepEqual(backend.record.messages, [])
  const again = await start({ memory_per_message: '1KiB' })
  const retry = await insideData(again.port)
  retry.send(LINES)
  await retry.ask('.\r\n', '250')
  assert.equal(await again.end('TERM'), 0)
  assert.equal(backend.record.messages.length, 1)
})

test('SIGKILL behind the 250: the message stands once, also after the next start', async (t) => {
  const { backend, start } = await scene(t)
  const gateway = await start()
  const talk = await insideData(gateway.port)
  await talk.ask('.\r\n', '250')
  assert.equal(await gateway.end('KILL'), 'SIGKILL')
  const again = await start()
  const other = await insideData(again.port)
  await other.ask('.\r\n', '250')
  assert.equal(await again.end('TERM'), 0)
  assert.equal(backend.record.messages.length, 2)
})

test('SIGKILL with a Maildir: what was answered 250 is there, what was not is not', async (t) => {
  places++
  const place = join(folder, String(places))
  const gateway = await startGateway({ folder: place })
  t.after(() => gateway.end('KILL'))
  const done = await insideData(gateway.port)
  await done.ask('.\r\n', '250')
  await insideData(gateway.port)
  assert.equal(await gateway.end('KILL'), 'SIGKILL')
  assert.equal((await readMaildir(place)).length, 1)
})

/** Waits until the process has written to a spool file, which has no name any more. */
async function untilSpooled(gateway: Gateway): Promise<void> {
  const pid = /"pid":(\d+)/.exec(gateway.log)?.[1]
  const deadline = Date.now() + 10_000
  while (Date.now() < deadline) {
    const handles = await readdir(`/proc/${pid}/fd`)
    const files = await Promise.all(handles.map((name) => readlink(`/proc/${pid}/fd/${name}`).catch(() => '')))
    if (files.some((file) => file.includes('/spool/') && file.endsWith('(deleted)'))) return
    await sleep(10)
  }
  throw new Error('the message did not go to the disk')
}
