// A Postfix that queues and tries again is the client, another the backend: whatever fails between them, no message is lost, and one is
// doubled only where the backend has taken it and its answer was lost (P1, P2). Every retry is asked for (postqueue -f); none is waited for.
import assert from 'node:assert/strict'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { type AddressInfo, connect, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, type TestContext, test } from 'node:test'
import { freePort, type Gateway } from '../conformance/gateway.ts'
import { DOMAIN, startGateway } from '../support/gateway.ts'
import { mailboxSettings, Postfix, polled, skipWithoutPostfix } from '../support/postfix.ts'
import { Talk } from '../support/talk.ts'

const USER = `user@${DOMAIN}`
const GONE = /: removed$/gm

let folder = ''
let receiverPort = 0
let scenes = 0

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'postern-postfix-queue-'))
  await chmod(folder, 0o755)
  receiverPort = await freePort()
})
after(() => rm(folder, { recursive: true, force: true }))

/** The Postfix that keeps the mailbox; what it has is there again when it is started again. */
async function startReceiver(t: TestContext): Promise<Postfix> {
  const place = join(folder, 'receiver')
  const receiver = await Postfix.start({
    folder: place,
    port: receiverPort,
    delivers: true,
    services: [`127.0.0.1:${receiverPort} inet n - n - - smtpd`],
    settings: { ...mailboxSettings(place, [USER]), myhostname: `mail.${DOMAIN}` },
  })
  t.after(() => receiver.stop())
  return receiver
}

interface Scene {
  readonly gateway: Gateway
  readonly sender: Postfix
}

/** A Postfix whose relayhost is a gateway before that port. */
async function scene(t: TestContext, backendPort: number): Promise<Scene> {
  scenes++
  const gateway = await startGateway({ folder: join(folder, `gateway-${scenes}`), backendPort })
  t.after(() => gateway.stop())
  const port = await freePort()
  const sender = await Postfix.start({
    folder: join(folder, `sender-${scenes}`),
    port,
    delivers: true,
    services: [`127.0.0.1:${port} inet n - n - - smtpd`],
    settings: { myhostname: 'out.example.net', mydestination: '', relayhost: `[127.0.0.1]:${gateway.port}` },
  })
  t.after(() => sender.stop())
  return { gateway, sender }
}

async function submit(sender: Postfix, subject: string): Promise<void> {
  const talk = await Talk.greeted(sender.port)
  await talk.ask('MAIL FROM:<sender@example.net>\r\n', '250')
  await talk.ask(`RCPT TO:<${USER}>\r\n`, '250')
  await talk.ask('DATA\r\n', '354')
  await talk.ask(`Subject: ${subject}\r\n\r\ntext\r\n.\r\n`, '250')
  talk.destroy()
}

/** Waits until the message is put off for this reason. */
async function deferred(sender: Postfix, reason: RegExp): Promise<void> {
  await sender.logged(new RegExp(`status=deferred .*${reason.source}`))
  await sender.queued(0, 'incoming', 'active')
  await sender.queued(1, 'deferred')
}

/** Tries again and waits until both have nothing left to do; gives how often the message lies in the mailbox. */
async function copiesAfterRetry({ sender }: Scene, receiver: Postfix, subject: string): Promise<number> {
  const pattern = new RegExp(`^Subject: ${subject}$`, 'm')
  const { length: before } = (await sender.log()).match(GONE) ?? []
  await sender.flush()
  await sender.logged(GONE, before + 1)
  await receiver.queued(0, 'incoming', 'active')
  const copies = await receiver.mailbox('user', pattern)
  assert.match(copies[0] ?? '', /^Received: from out\.example\.net .*\n\tby mx\.example\.com \(Postern\)/m)
  return copies.length
}

suite('a Postfix that tries again', { skip: skipWithoutPostfix() }, () => {
  test('the backend is not there yet: turned away, and delivered once', async (t) => {
    const between = await scene(t, receiverPort)
    await submit(between.sender, 'early')
    await deferred(between.sender, /refused to talk to me: 421 4\.3\.2 /)
    assert.equal(await copiesAfterRetry(between, await startReceiver(t), 'early'), 1)
  })

  test('the backend went away: deferred at MAIL, and delivered once', async (t) => {
    const receiver = await startReceiver(t)
    const between = await scene(t, receiverPort)
    await submit(between.sender, 'first')
    await receiver.mailbox('user', /^Subject: first$/m)
    await receiver.stop()
    await submit(between.sender, 'later')
    await deferred(between.sender, /said: 4\d\d .*\(in reply to MAIL FROM command\)/)
    assert.equal(await copiesAfterRetry(between, await startReceiver(t), 'later'), 1)
  })

  for (const [at, copies] of [
    ['dot', 1],
    ['answer', 2],
  ] as const) {
    test(`the backend is lost with the ${at} on its way: 451, and ${copies} in the mailbox`, async (t) => {
      const receiver = await startReceiver(t)
      const wire = await wireThatBreaks(t, at)
      const between = await scene(t, wire)
      await submit(between.sender, `lost-${at}`)
      await deferred(between.sender, /said: 451 4\.4\.2 .*\(in reply to end of DATA command\)/)
      await polled(
        'the line of the transaction',
        async () => between.gateway.log.includes('"outcome":"unknown"') || undefined,
      )
      assert.equal(await copiesAfterRetry(between, receiver, `lost-${at}`), copies)
      assert.equal(between.gateway.log.match(/"outcome":"unknown"/g)?.length, 1)
      assert.equal(between.gateway.log.match(/"outcome":"delivered"/g)?.length, 1)
    })
  }
})

/** A port that leads to the receiver, and fails once: just before the final dot gets there, or with the 250 for it on its way back. */
function wireThatBreaks(t: TestContext, at: 'dot' | 'answer'): Promise<number> {
  let whole = true
  const server: Server = createServer((near) => {
    const far = connect(receiverPort, '127.0.0.1')
    const breaks = (now: boolean): boolean => {
      if (!now || !whole) return false
      whole = false
      near.destroy()
      far.destroy()
      return true
    }
    // A message that is short comes in one piece with its dot.
    near.on('data', (chunk) => breaks(at === 'dot' && chunk.toString().endsWith('\r\n.\r\n')) || far.write(chunk))
    far.on('data', (chunk) => breaks(at === 'answer' && /: queued as/.test(chunk.toString())) || near.write(chunk))
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on('error', () => {}) // `close` follows
      one.on('close', () => other.destroy())
    }
    t.after(() => near.destroy())
  })
  t.after(() => server.close())
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port))
  })
}
