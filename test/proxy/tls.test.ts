// TLS towards clients: a whole gateway on loopback with certificates made for the test, our own client and two that others wrote.
// The clock of the gateway stands still until a test moves it.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect as connectTcp, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, type TestContext, test } from 'node:test'
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls'
import { stringify } from 'yaml'
import { App } from '../../src/app.ts'
import { loadConfig } from '../../src/config/load.ts'
import { ConfigError } from '../../src/config/problem.ts'
import { FakeClock, settle } from '../support/fake-clock.ts'
import { FakeLog } from '../support/fake-log.ts'
import { maildirOf, readMaildir } from '../support/gateway.ts'
import { peer, skipWithout } from '../support/peers.ts'
import { runCommand } from '../support/run-command.ts'
import { Talk } from '../support/talk.ts'

const BOUNDED = { timeout: 60_000 }
let certificates = ''
// All clients of the test that runs: a gateway that stops waits for them.
const clients: Socket[] = []

/** A self-signed certificate, in `<name>.pem` and `<name>.key`. */
async function makeCertificate(name: string, host: string): Promise<void> {
  const [certificate, key] = [join(certificates, `${name}.pem`), join(certificates, `${name}.key`)]
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-noenc', '-days', '2']
  const subject = ['-subj', `/CN=${host}`, '-addext', `subjectAltName=DNS:${host}`]
  const made = await runCommand(peer('openssl'), [
    'req',
    '-x509',
    ...kind,
    '-keyout',
    key,
    '-out',
    certificate,
    ...subject,
  ])
  assert.equal(made.status, 0, made.stderr)
}

function files(name: string): { certificate: string; key: string } {
  return { certificate: join(certificates, `${name}.pem`), key: join(certificates, `${name}.key`) }
}

interface Running {
  readonly folder: string
  readonly clock: FakeClock
  port(listener: string): number
  /** Sessions that are open, as the metrics have it. */
  open(): Promise<number>
}

function configuration(t: TestContext, settings: object): string {
  const folder = mkdtempSync(join(tmpdir(), 'postern-tls-test-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const config = {
    hostname: 'mx.example.com',
    listeners: ['starttls', 'required', 'implicit'].map((tls) => ({ name: tls, address: '127.0.0.1:0', tls })),
    tls: files('main'),
    domains: ['example.com'],
    maildir: { path: maildirOf(folder) },
    data_dir: join(folder, 'data'),
    admin: { address: '127.0.0.1:0' },
    ...settings,
  }
  const file = join(folder, 'postern.yaml')
  writeFileSync(file, stringify(config))
  return file
}

async function start(t: TestContext, settings: object = {}): Promise<Running> {
  const path = configuration(t, settings)
  const clock = new FakeClock()
  const app = await App.create({ loaded: loadConfig({ path, env: {} }), clock, log: new FakeLog() })
  const listeners = await app.start()
  t.after(async () => {
    // The newest first: Node dies of a socket that is destroyed before the TLSSocket over it, in one turn.
    for (const client of clients.splice(0).reverse()) client.destroy()
    await app.stop()
  })
  const metrics = `http://127.0.0.1:${app.adminAddress?.port}/metrics`
  return {
    folder: join(path, '..'),
    clock,
    port: (name) => listeners.find((listener) => listener.name === name)?.address.port ?? assert.fail(name),
    open: async () => {
      const text = await (await fetch(metrics)).text()
      const counts = [...text.matchAll(/^postern_sessions_open\{.*\} (\d+)$/gm)].map(([, count]) => Number(count))
      assert.equal(counts.length, 3, text)
      return counts.reduce((sum, count) => sum + count, 0)
    },
  }
}

/** Comes back when no session is open any more. */
async function untilNoneOpen({ open }: Running): Promise<void> {
  while ((await open()) > 0) await settle(1)
}

function plain(port: number): { socket: Socket; talk: Talk } {
  const socket = connectTcp({ port, host: '127.0.0.1', noDelay: true })
  clients.push(socket)
  return { socket, talk: Talk.over(socket) }
}

/** A connection on which the server has said that it is ready for the handshake. */
async function ready(port: number): Promise<{ socket: Socket; talk: Talk }> {
  const { socket, talk } = plain(port)
  await talk.expect('220')
  assert.match(await talk.ask('EHLO client.example.net\r\n', '250'), /^250[- ]STARTTLS\r$/m)
  await talk.ask('STARTTLS\r\n', '220 2.0.0')
  return { socket, talk }
}

function handshake(options: ConnectionOptions): Promise<TLSSocket> {
  const secure = connectTls({ rejectUnauthorized: false, ...options })
  clients.push(secure)
  return new Promise((resolve, reject) => {
    secure.once('secureConnect', () => resolve(secure))
    secure.once('error', reject)
    secure.once('close', () => reject(new Error('closed during the handshake')))
  })
}

async function upgraded(port: number, options: ConnectionOptions = {}): Promise<TLSSocket> {
  return handshake({ socket: (await ready(port)).socket, ...options })
}

async function deliver(talk: Talk): Promise<void> {
  await talk.ask('MAIL FROM:<sender@example.net>\r\n', '250')
  await talk.ask('RCPT TO:<user@example.com>\r\n', '250')
  await talk.ask('DATA\r\n', '354')
  await talk.ask('Subject: under TLS\r\n\r\n..text\r\n.\r\n', '250 2.0.0')
  await talk.ask('QUIT\r\n', '221')
  assert.deepEqual(await talk.rest(), [])
}

async function onlyMessage({ folder }: Running): Promise<string> {
  const [message, ...more] = await readMaildir(folder)
  assert.deepEqual(more, [])
  return message?.toString('latin1') ?? ''
}

suite('TLS towards clients', { skip: skipWithout('openssl'), ...BOUNDED }, () => {
  before(async () => {
    certificates = mkdtempSync(join(tmpdir(), 'postern-certificates-'))
    await makeCertificate('main', 'mx.example.com')
    await makeCertificate('second', 'second.example.net')
    await makeCertificate('wild', '*.example.org')
  })
  after(() => rmSync(certificates, { recursive: true }))

  test('STARTTLS: what was said is forgotten, and a message is delivered', async (t) => {
    const gateway = await start(t)
    const talk = Talk.over(await upgraded(gateway.port('starttls')))
    await talk.ask('MAIL FROM:<sender@example.net>\r\n', '503 5.5.1')
    assert.doesNotMatch(await talk.ask('EHLO client.example.net\r\n', '250'), /STARTTLS/)
    await talk.ask('STARTTLS\r\n', '503 5.5.1')
    await deliver(talk)
    const text = await onlyMessage(gateway)
    assert.match(
      text,
      /^Received: from client\.example\.net \(\[127\.0\.0\.1\]\)\r\n\tby mx\.example\.com .* with ESMTPS id /m,
    )
    assert.ok(text.endsWith('Subject: under TLS\r\n\r\n.text\r\n'))
    await untilNoneOpen(gateway)
  })

  test('without STARTTLS the message is not said to have come under TLS', async (t) => {
    const gateway = await start(t)
    const talk = await Talk.greeted(gateway.port('starttls'))
    await deliver(talk)
    assert.match(await onlyMessage(gateway), / with ESMTP id /)
  })

  test('STARTTLS takes no argument, and is not for the middle of a transaction', async (t) => {
    const talk = await Talk.greeted((await start(t)).port('starttls'))
    await talk.ask('STARTTLS now\r\n', '501 5.5.4')
    await talk.ask('MAIL FROM:<sender@example.net>\r\n', '250')
    await talk.ask('STARTTLS\r\n', '503 5.5.1')
    talk.destroy()
  })

  for (const behind of ['NOOP\r\n', 'EHLO a\r\nMAIL FROM:<a@example.net>\r\n', 'NO', '\r', '\x16\x03\x01']) {
    test(`CVE-2011-0411: ${JSON.stringify(behind)} behind STARTTLS in one segment ends the session`, async (t) => {
      const gateway = await start(t)
      const talk = await Talk.greeted(gateway.port('starttls'))
      await talk.ask(`STARTTLS\r\n${behind}`, '554 5.5.0')
      assert.deepEqual(await talk.rest(), [])
      await untilNoneOpen(gateway)
    })
  }

  test('plain text or garbage in place of the handshake: closed, nothing is answered, and every place is free again', async (t) => {
    const gateway = await start(t, { limits: { connections: 2 } })
    const hello = Buffer.from('16030100c8010000c40303', 'hex')
    const garbage = ['NOOP\r\n', 'EHLO a\r\nMAIL FROM:<a@example.net>\r\n', Buffer.alloc(5000, 0xff), Buffer.alloc(200)]
    for (const octets of [...garbage, Buffer.concat([hello, Buffer.alloc(300, 7)])]) {
      const { talk } = await ready(gateway.port('starttls'))
      talk.send(octets)
      assert.deepEqual(
        (await talk.rest()).filter((reply) => /^\d{3}/.test(reply)),
        [],
      )
      const implicit = plain(gateway.port('implicit'))
      implicit.talk.send(octets)
      assert.deepEqual(
        (await implicit.talk.rest()).filter((reply) => /^\d{3}/.test(reply)),
        [],
      )
      await untilNoneOpen(gateway)
    }
    await Talk.greeted(gateway.port('starttls'))
  })

  test('who leaves in the middle of the handshake leaves nothing behind', async (t) => {
    const gateway = await start(t, { limits: { connections: 2 } })
    const half = Buffer.from('16030100c8010000c40303', 'hex')
    for (const leave of ['end', 'resetAndDestroy', 'destroy'] as const) {
      for (const octets of [half, '']) {
        const { socket } = await ready(gateway.port('starttls'))
        const implicit = plain(gateway.port('implicit')).socket
        await new Promise((resolve) => implicit.once('connect', resolve))
        for (const one of [socket, implicit]) {
          if (octets !== '') one.write(octets)
          one[leave]()
        }
        await Promise.all(
          [socket, implicit].map((one) => one.closed || new Promise((resolve) => one.once('close', resolve))),
        )
        await untilNoneOpen(gateway)
      }
    }
    await Talk.greeted(gateway.port('starttls'))
    await Talk.greeted(gateway.port('starttls'))
  })

  test('a handshake that stalls ends: after limits.idle, or after 30 s where it is the first thing', async (t) => {
    const gateway = await start(t, { limits: { idle: '40s' } })
    const { talk } = await ready(gateway.port('starttls'))
    const implicit = plain(gateway.port('implicit'))
    for (const one of [talk, implicit.talk]) one.send(Buffer.from('16030100c8', 'hex'))
    await settle()
    await gateway.clock.advance(30_000)
    assert.deepEqual(await implicit.talk.rest(), [])
    assert.equal(await gateway.open(), 1)
    await gateway.clock.advance(10_000)
    assert.deepEqual(await talk.rest(), [])
    await untilNoneOpen(gateway)
  })

  test('the certificate is that of the name asked for', async (t) => {
    const sni = [
      { names: ['second.example.net', 'third.example.net'], ...files('second') },
      { names: ['*.example.org', 'Upper.Example.NET'], ...files('wild') },
    ]
    const gateway = await start(t, { tls: { ...files('main'), sni } })
    const names: readonly [asked: string | undefined, shown: string][] = [
      [undefined, 'mx.example.com'],
      ['mx.example.com', 'mx.example.com'],
      ['unknown.example.net', 'mx.example.com'],
      ['second.example.net', 'second.example.net'],
      ['SECOND.Example.net', 'second.example.net'],
      ['third.example.net', 'second.example.net'],
      ['mail.example.org', '*.example.org'],
      ['upper.example.net', '*.example.org'],
      ['a.mail.example.org', 'mx.example.com'], // a wildcard is one label
      ['example.org', 'mx.example.com'],
    ]
    for (const [servername, shown] of names) {
      const options = servername === undefined ? {} : { servername }
      const implicit = await handshake({ port: gateway.port('implicit'), host: '127.0.0.1', ...options })
      assert.equal(implicit.getPeerCertificate().subject.CN, shown, `implicit, ${servername}`)
      const starttls = await upgraded(gateway.port('starttls'), options)
      assert.equal(starttls.getPeerCertificate().subject.CN, shown, `starttls, ${servername}`)
    }
  })

  test('TLS 1.3 and 1.2 with forward secrecy, and nothing below', async (t) => {
    const gateway = await start(t)
    const attempt = (options: ConnectionOptions) => upgraded(gateway.port('starttls'), options)
    const old = 'DEFAULT:@SECLEVEL=0'
    assert.equal((await attempt({})).getProtocol(), 'TLSv1.3')
    assert.equal((await attempt({ maxVersion: 'TLSv1.2', ciphers: old })).getProtocol(), 'TLSv1.2')
    for (const version of ['TLSv1.1', 'TLSv1'] as const) {
      const options = { minVersion: version, maxVersion: version, ciphers: old }
      await assert.rejects(attempt(options), { code: 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION' })
    }
    const weak = { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES256-SHA:AES128-SHA' } as const
    await assert.rejects(attempt(weak), { code: 'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE' })
    await untilNoneOpen({ ...gateway, open: async () => (await gateway.open()) - 2 })
  })

  test('a session ticket of one listener is worth nothing at another', async (t) => {
    const gateway = await start(t)
    const [one, other] = [gateway.port('starttls'), gateway.port('required')]
    const options = { maxVersion: 'TLSv1.2' } as const
    const first = await upgraded(one, options)
    const session = first.getSession()
    assert.ok(session)
    assert.equal((await upgraded(one, { ...options, session })).isSessionReused(), true)
    assert.equal((await upgraded(other, { ...options, session })).isSessionReused(), false)
  })

  test('implicit: TLS from the first octet, and no STARTTLS', async (t) => {
    const gateway = await start(t)
    const talk = Talk.over(await handshake({ port: gateway.port('implicit'), host: '127.0.0.1' }))
    await talk.expect('220 mx.example.com')
    assert.doesNotMatch(await talk.ask('EHLO client.example.net\r\n', '250'), /STARTTLS/)
    await talk.ask('STARTTLS\r\n', '503 5.5.1')
    await deliver(talk)
    assert.match(await onlyMessage(gateway), / with ESMTPS id /)
    await untilNoneOpen(gateway)
  })

  test('required: nothing but the way to TLS before TLS', async (t) => {
    const gateway = await start(t)
    const talk = await Talk.greeted(gateway.port('required'))
    for (const line of ['NOOP', 'RSET', 'HELO client.example.net']) await talk.ask(`${line}\r\n`, '250')
    for (const line of ['MAIL FROM:<a@example.net>', 'RCPT TO:<user@example.com>', 'DATA', 'VRFY user', 'HELP'])
      await talk.ask(`${line}\r\n`, '530 5.7.0')
    await talk.ask('QUIT\r\n', '221')
    const secure = Talk.over(await upgraded(gateway.port('required')))
    await secure.ask('EHLO client.example.net\r\n', '250')
    await deliver(secure)
    await untilNoneOpen(gateway)
  })

  test('required: a chunk is not read as commands', async (t) => {
    const talk = await Talk.greeted((await start(t)).port('required'))
    await talk.ask('BDAT 6 LAST\r\nNOOP\r\n', '530 5.7.0')
    assert.deepEqual(await talk.rest(), [])
  })

  const unusable: readonly [title: string, settings: () => object, path: string, message: RegExp][] = [
    [
      'a key of another certificate',
      () => ({ tls: { ...files('main'), key: files('second').key } }),
      'tls',
      /the key is not/,
    ],
    [
      'no certificate in the file',
      () => ({ tls: { ...files('main'), certificate: files('main').key } }),
      'tls',
      /cannot be/,
    ],
    ['no such file', () => ({ tls: { ...files('main'), key: '/nonexistent/key.pem' } }), 'tls.key', /ENOENT/],
    [
      'a key of another certificate, of a name',
      () => {
        const sni = [{ names: ['a.example'], certificate: files('second').certificate, key: files('wild').key }]
        return { tls: { ...files('main'), sni } }
      },
      'tls.sni[0]',
      /the key is not/,
    ],
    ['no certificate at all', () => ({ tls: undefined }), 'listeners[0].tls', /needs a certificate/],
  ]
  for (const [title, settings, path, message] of unusable) {
    test(`${title}: an error of the configuration that names ${path}`, async (t) => {
      const loaded = loadConfig({ path: configuration(t, settings()), env: {} })
      await assert.rejects(App.create({ loaded, clock: new FakeClock(), log: new FakeLog() }), (error) => {
        assert.ok(error instanceof ConfigError, String(error))
        assert.equal(error.problems[0]?.path, path)
        assert.match(error.problems[0]?.message ?? '', message)
        assert.match(error.problems[0]?.where ?? '', /postern\.yaml:\d+:\d+$/)
        return true
      })
    })
  }

  test('openssl s_client takes our certificate and our STARTTLS', async (t) => {
    const gateway = await start(t)
    const proof = ['-CAfile', files('main').certificate, '-verify_return_error', '-verify_hostname', 'mx.example.com']
    for (const [listener, how] of [
      ['starttls', ['-starttls', 'smtp']],
      ['implicit', []],
    ] as const) {
      const argv = ['s_client', '-connect', `127.0.0.1:${gateway.port(listener)}`, ...how, ...proof, '-quiet', '-brief']
      const { status, stdout, stderr } = await runCommand(peer('openssl'), argv, { input: 'QUIT\r\n' })
      assert.equal(status, 0, stderr)
      assert.match(stderr, /^Protocol version: TLSv1\.3$/m)
      assert.match(stderr, /^Verification: OK$/m)
      assert.match(stdout, /^221 2\.0\.0 Bye\r?$/m)
    }
    await untilNoneOpen(gateway)
  })

  test('swaks delivers under TLS', { skip: skipWithout('swaks') }, async (t) => {
    const support = await runCommand(peer('swaks'), ['--support'])
    if (!support.stdout.includes('=== TLS supported')) {
      t.skip('swaks has no TLS here (Debian package libnet-ssleay-perl)')
      return
    }
    const gateway = await start(t)
    for (const [listener, how] of [
      ['starttls', '--tls'],
      ['required', '--tls'],
      ['implicit', '--tls-on-connect'],
    ] as const) {
      const server = ['--server', '127.0.0.1', '--port', String(gateway.port(listener)), '--ehlo', 'client.example.net']
      const mail = ['--from', 'sender@example.net', '--to', 'user@example.com']
      const { status, stdout, stderr } = await runCommand(peer('swaks'), [...server, ...mail, how])
      assert.equal(status, 0, stdout + stderr)
      assert.match(stdout, /TLS started with cipher TLSv1\.[23]:/)
    }
    const messages = await readMaildir(gateway.folder)
    assert.equal(messages.length, 3)
    for (const message of messages) assert.match(message.toString('latin1'), / with ESMTPS id /)
    await untilNoneOpen(gateway)
  })
})
