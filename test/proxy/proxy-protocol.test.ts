// The PROXY protocol on real sockets: a listener behind a load balancer, and the gateway in front of a backend. The clock stands still.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, type TestContext, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { App } from '../../src/app.ts'
import { loadConfig } from '../../src/config/load.ts'
import { NetworkSet } from '../../src/net/ip.ts'
import type { ListenerOptions } from '../../src/proxy/deps.ts'
import { MaildirDestination } from '../../src/proxy/maildir-destination.ts'
import { ConnectionCounter, SmtpServer } from '../../src/proxy/server.ts'
import { TlsTerminator } from '../../src/proxy/tls.ts'
import { buildProxyHeader, localProxyHeader, type ProxyHeader, parseProxyHeader } from '../../src/smtp/proxy-header.ts'
import { CertificateMaker } from '../conformance/certificates.ts'
import { buildGateway, type Gateway } from '../support/dialog-gateway.ts'
import { duplexPair } from '../support/duplex-pair.ts'
import { FakeClock, settle } from '../support/fake-clock.ts'
import { FakeLog } from '../support/fake-log.ts'
import { skipWithout } from '../support/peers.ts'
import { Talk } from '../support/talk.ts'

const BOUNDED = { timeout: 60_000 }
const HEADER = Buffer.from('PROXY TCP4 192.0.2.9 198.51.100.1 4000 25\r\n')

interface Running extends Gateway {
  readonly counter: ConnectionCounter
  readonly port: number
  /** Addresses of the sessions that began, and reasons of the connections that were turned away. */
  readonly seen: string[]
  readonly mail: string
  dial(): { readonly socket: Socket; readonly talk: Talk }
}

interface Wish {
  readonly from?: string
  readonly yaml?: string
  readonly tls?: ListenerOptions['tls']
}

/** A listener that only a load balancer may use: by default the test. */
async function start(t: TestContext, { from = '127.0.0.1', yaml = '', tls }: Wish = {}): Promise<Running> {
  const script = { file: 'postern.yaml', title: '', yaml: `\n${yaml}\n`, settings: [], steps: [] }
  const gateway = await buildGateway(script, () => assert.fail('no backend is dialled'))
  const mail = mkdtempSync(join(tmpdir(), 'postern-proxy-'))
  const destination = new MaildirDestination({ path: mail, hostname: 'mx.example.org', clock: gateway.clock })
  const deps = { ...gateway.deps, destination }
  const counter = new ConnectionCounter()
  const listener = { ...gateway.listener, tls, proxyFrom: new NetworkSet([from]) }
  const server = new SmtpServer({ listener, address: { host: '127.0.0.1', port: 0 }, deps, counter })
  const { port } = await server.listen()
  const seen: string[] = []
  deps.events.on('session-started', ({ client }) => seen.push(client))
  deps.events.on('session-refused', ({ client, reason }) => seen.push(`${client} ${reason}`))
  const sockets: Socket[] = []
  t.after(async () => {
    for (const socket of sockets) socket.destroy()
    await server.stop()
    for (const folder of [mail, gateway.spoolDir]) rmSync(folder, { recursive: true })
  })
  const dial = () => {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true })
    sockets.push(socket)
    return { socket, talk: Talk.over(socket) }
  }
  return { ...gateway, deps, counter, port, seen, mail, dial }
}

async function until(come: () => boolean): Promise<void> {
  while (!come()) await settle(1)
}

/** Nothing was said to the client, and its connection is closed. */
async function assertSilentEnd(talk: Talk, counter: ConnectionCounter): Promise<void> {
  assert.deepEqual(await talk.rest(), [])
  await until(() => counter.all === 0)
}

suite('a listener behind a load balancer', BOUNDED, () => {
  const six = { address: '2001:db8::7', port: 4000 }
  const four = { address: '192.0.2.9', port: 4000 }
  const here = { address: '198.51.100.1', port: 25 }
  const headers: readonly [title: string, header: Buffer, client: string][] = [
    ['version 1, IPv4', HEADER, four.address],
    ['version 1, IPv6', buildProxyHeader(1, six, here), six.address],
    ['version 2, IPv4', buildProxyHeader(2, four, here), four.address],
    ['version 2, IPv6', buildProxyHeader(2, six, here), six.address],
  ]
  for (const [title, header, client] of headers) {
    test(`${title}: the session is that client's`, async (t) => {
      const { dial, seen } = await start(t)
      const { talk } = dial()
      talk.send(header)
      await talk.expect('220 mx.example.org')
      await talk.ask('EHLO client.example.net\r\n', '250')
      assert.deepEqual(seen, [client])
    })

    test(`${title}: octet by octet, and nothing is said before its end`, async (t) => {
      const { dial, seen, counter } = await start(t)
      const { socket, talk } = dial()
      await until(() => counter.all === 1)
      for (const octet of header.subarray(0, -1)) {
        socket.write(Buffer.of(octet))
        await settle(2)
      }
      assert.deepEqual([socket.bytesRead, seen], [0, []])
      socket.write(header.subarray(-1))
      await talk.expect('220')
      await talk.ask('EHLO client.example.net\r\n', '250')
      assert.deepEqual(seen, [client])
    })

    test(`${title}: EHLO in the same segment is not lost`, async (t) => {
      const { dial } = await start(t)
      const { talk } = dial()
      talk.send(Buffer.concat([header, Buffer.from('EHLO client.example.net\r\n')]))
      await talk.expect('220')
      await talk.expect('250')
      await talk.ask('QUIT\r\n', '221')
    })
  }

  test('a message, and where it says that it came from', async (t) => {
    const { dial, mail } = await start(t)
    const { talk } = dial()
    talk.send(HEADER)
    await talk.expect('220')
    await talk.ask('EHLO client.example.net\r\n', '250')
    await talk.ask('MAIL FROM:<a@example.net>\r\n', '250')
    await talk.ask('RCPT TO:<b@example.org>\r\n', '250')
    await talk.ask('DATA\r\n', '354')
    await talk.ask('Subject: hello\r\n\r\ntext\r\n.\r\n', '250')
    const fresh = join(mail, 'new')
    const [name = ''] = await readdir(fresh)
    assert.match(
      await readFile(join(fresh, name), 'latin1'),
      /^Received: from client\.example\.net \(\[192\.0\.2\.9\]\)/m,
    )
  })

  test('the networks of the filters are those of the client, not of the load balancer', async (t) => {
    const { dial } = await start(t, { yaml: 'filters: {networks: {allow: [127.0.0.1], deny: [192.0.2.0/24]}}' })
    const { talk } = dial()
    talk.send(HEADER)
    await talk.expect('220')
    await talk.ask('EHLO client.example.net\r\n', '250')
    await talk.ask('MAIL FROM:<a@example.net>\r\n', '250')
    await talk.ask('RCPT TO:<b@example.org>\r\n', '550 5.7.1 Your network')
  })

  test('no header within five seconds: closed without a word', async (t) => {
    const { dial, clock, counter, seen } = await start(t)
    const { socket, talk } = dial()
    await until(() => counter.all === 1)
    socket.write('PROXY TCP4 ')
    await clock.advance(4999)
    assert.deepEqual([counter.all, socket.readableEnded], [1, false])
    await clock.advance(1)
    await assertSilentEnd(talk, counter)
    assert.deepEqual(seen, ['127.0.0.1 proxy_header'])
    assert.equal(clock.pending, 0)
  })

  const wrong: readonly [title: string, octets: string][] = [
    ['no header', 'EHLO client.example.net\r\n'],
    ['LF only', 'PROXY TCP4 192.0.2.9 198.51.100.1 4000 25\nEHLO client.example.net\r\n'],
    ['a bad address', 'PROXY TCP4 192.0.2.999 198.51.100.1 4000 25\r\n'],
    ['no end', `PROXY UNKNOWN ${'x'.repeat(100_000)}`],
    ['a bad signature', '\r\n\r\n\0\r\nQUIT\r\n'],
  ]
  for (const [title, octets] of wrong) {
    test(`${title}: closed without a word`, async (t) => {
      const { dial, counter, seen } = await start(t)
      const { talk } = dial()
      talk.send(octets)
      await assertSilentEnd(talk, counter)
      assert.deepEqual(seen, ['127.0.0.1 proxy_header'])
    })
  }

  test('from elsewhere nobody may connect, with or without a header', async (t) => {
    const { dial, seen } = await start(t, { from: '192.0.2.0/24' })
    for (const octets of [HEADER, 'EHLO client.example.net\r\n']) {
      const { talk } = dial()
      talk.send(octets)
      await talk.expect('421 4.7.0')
      assert.equal(await talk.reply(), undefined)
    }
    assert.deepEqual(seen, ['127.0.0.1 proxy_protocol_from', '127.0.0.1 proxy_protocol_from'])
  })

  const checks: readonly [title: string, header: Buffer][] = [
    ['version 2 LOCAL', localProxyHeader()],
    ['version 1 UNKNOWN', Buffer.from('PROXY UNKNOWN\r\n')],
  ]
  for (const [title, header] of checks) {
    test(`${title}, a health check: a greeting, no mail, and no place taken`, async (t) => {
      const { dial, counter } = await start(t, { yaml: 'limits: {connections_per_address: 1}' })
      for (let i = 0; i < 3; i++) {
        const { talk } = dial()
        talk.send(header)
        await talk.expect('220')
        await talk.ask('EHLO balancer.example.org\r\n', '250')
        await talk.ask('MAIL FROM:<a@example.net>\r\n', '550 5.7.1')
        await talk.ask('RCPT TO:<b@example.org>\r\n', '503')
      }
      assert.equal(counter.all, 3)
    })
  }

  test('connections_per_address counts the client, not the load balancer', async (t) => {
    const { dial, counter } = await start(t, { yaml: 'limits: {connections_per_address: 1}' })
    const from = async (address: string, code: string) => {
      const { socket, talk } = dial()
      talk.send(buildProxyHeader(2, { address, port: 4000 }, here))
      await talk.expect(code)
      return socket
    }
    const first = await from('192.0.2.1', '220')
    await from('192.0.2.2', '220')
    await from('192.0.2.1', '421 4.7.0')
    await from('2001:db8:0:1::1', '220')
    await from('2001:db8:0:1::2', '421 4.7.0')
    await from('2001:db8:0:2::1', '220')
    assert.deepEqual([counter.of('192.0.2.1'), counter.of('127.0.0.1')], [1, 0])
    first.end()
    await until(() => counter.of('192.0.2.1') === 0)
    await from('192.0.2.1', '220')
  })

  test('who leaves before, in or behind the header leaves nothing behind', async (t) => {
    const { dial, counter, clock } = await start(t)
    for (const leave of ['end', 'destroy', 'resetAndDestroy'] as const) {
      for (const octets of ['', 'PROXY TCP4 192.0.2.9', HEADER, localProxyHeader()]) {
        const { socket } = dial()
        await until(() => counter.all === 1)
        if (octets !== '') socket.write(octets)
        socket[leave]()
        await until(() => counter.all === 0)
        socket.destroy()
      }
    }
    assert.equal(clock.pending, 0)
  })

  test('header and ClientHello in one segment, under implicit TLS', { skip: skipWithout('openssl') }, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'postern-proxy-tls-'))
    t.after(() => rmSync(folder, { recursive: true }))
    const terminator = new TlsTerminator({ main: await new CertificateMaker(folder).get(), named: [] })
    const { dial, seen } = await start(t, { tls: { mode: 'implicit', terminator } })
    const { socket } = dial()
    const [near, far] = duplexPair()
    far.once('data', (hello: Buffer) => {
      socket.write(Buffer.concat([HEADER, hello]))
      far.on('data', (chunk: Buffer) => socket.write(chunk))
    })
    socket.removeAllListeners('data')
    socket.on('data', (chunk) => far.write(chunk))
    const talk = Talk.over(connectTls({ socket: near, rejectUnauthorized: false }))
    await talk.expect('220')
    await talk.ask('EHLO client.example.net\r\n', '250')
    assert.deepEqual(seen, ['192.0.2.9'])
  })
})

interface Heard {
  header: ProxyHeader | undefined
  readonly lines: string[]
}

/** A backend that says nothing before a PROXY header, and keeps what each connection said. */
async function backend(t: TestContext): Promise<{ readonly port: number; readonly heard: Heard[] }> {
  const heard: Heard[] = []
  const sockets: Socket[] = []
  const server = createServer((socket) => {
    sockets.push(socket)
    const one: Heard = { header: undefined, lines: [] }
    heard.push(one)
    let input = Buffer.alloc(0)
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => {
      input = Buffer.concat([input, chunk])
      if (one.header === undefined) {
        const header = parseProxyHeader(input)
        if (header.kind === 'incomplete') return
        one.header = header
        if ('length' in header) input = input.subarray(header.length)
        socket.write('220 backend.example.org\r\n')
      }
      for (let at = input.indexOf('\r\n'); at >= 0; at = input.indexOf('\r\n')) {
        const line = input.toString('latin1', 0, at)
        input = input.subarray(at + 2)
        one.lines.push(line)
        answer(socket, line)
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { port: (server.address() as AddressInfo).port, heard }
}

function answer(socket: Socket, line: string): void {
  if (line === 'QUIT') socket.end('221 2.0.0 bye\r\n')
  else if (line === 'DATA') socket.write('354 go ahead\r\n')
  else if (/^(?:EHLO|MAIL|RCPT|\.$)/.test(line)) socket.write('250 2.0.0 ok\r\n')
}

suite('a backend that takes the PROXY protocol', BOUNDED, () => {
  const COMMANDS = /^(?:EHLO|MAIL|RCPT|DATA|QUIT|XCLIENT|RSET)/

  async function gateway(t: TestContext, mode: string, port: number): Promise<number> {
    const folder = mkdtempSync(join(tmpdir(), 'postern-proxy-'))
    const text = `
hostname: mx.example.org
listeners: [{name: mx, address: "127.0.0.1:0", proxy_protocol_from: [127.0.0.1]}]
domains: [example.org]
backend: {servers: ["127.0.0.1:${port}"], client_address: ${mode}}
data_dir: ${JSON.stringify(folder)}
admin: {address: off}
`
    const loaded = loadConfig({ text, path: 'postern.yaml', env: {} })
    const app = await App.create({ loaded, clock: new FakeClock(), log: new FakeLog() })
    const [listener] = await app.start()
    t.after(async () => {
      await app.stop()
      rmSync(folder, { recursive: true })
    })
    return listener?.address.port ?? assert.fail('no listener')
  }

  async function send(talk: Talk, from: string): Promise<void> {
    await talk.ask(`MAIL FROM:<${from}>\r\n`, '250')
    await talk.ask('RCPT TO:<user@example.org>\r\n', '250')
    await talk.ask('DATA\r\n', '354')
    await talk.ask('Subject: hello\r\n\r\ntext\r\n.\r\n', '250')
  }

  for (const [mode, version] of [
    ['proxy-v1', 1],
    ['proxy-v2', 2],
  ] as const) {
    test(`${mode}: the client in the first octets, and a connection for each transaction`, async (t) => {
      const { port, heard } = await backend(t)
      const entrance = await gateway(t, mode, port)
      for (const [address, count] of [
        ['192.0.2.9', 2],
        ['2001:db8::7', 1],
      ] as const) {
        const socket = connect({ port: entrance, host: '127.0.0.1', noDelay: true })
        const talk = Talk.over(socket)
        talk.send(buildProxyHeader(version, { address, port: 4000 }, { address: '198.51.100.1', port: 25 }))
        await talk.expect('220')
        await talk.ask('EHLO client.example.net\r\n', '250')
        for (let i = 1; i <= count; i++) await send(talk, `${i}@example.net`)
        await talk.ask('QUIT\r\n', '221')
        assert.deepEqual(await talk.rest(), [])
      }
      const [probe, ...transactions] = heard
      // The first connection is our own: to learn what the backend can.
      const own = version === 2 ? { kind: 'local', length: 16 } : { kind: 'proxied' }
      assert.equal(probe?.header?.kind, own.kind)
      await until(() => heard.every(({ lines }) => lines.at(-1) === 'QUIT'))
      assert.deepEqual(probe?.lines, ['EHLO mx.example.org', 'QUIT'])
      const clients = transactions.map(({ header }) => (header?.kind === 'proxied' ? header.source : header))
      assert.deepEqual(clients, [
        { address: '192.0.2.9', port: 4000 },
        { address: '192.0.2.9', port: 4000 },
        { address: '2001:db8::7', port: 4000 },
      ])
      const mails = ['1@example.net', '2@example.net', '1@example.net']
      assert.deepEqual(
        transactions.map(({ lines }) => lines.filter((line) => COMMANDS.test(line))),
        mails.map((from) => [
          'EHLO mx.example.org',
          `MAIL FROM:<${from}>`,
          'RCPT TO:<user@example.org>',
          'DATA',
          'QUIT',
        ]),
      )
    })
  }
})
