// TLS towards a backend, with real handshakes on loopback: whom it trusts, and what it does where it cannot.
import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, type TestContext, test } from 'node:test'
import { createSecureContext, TLSSocket } from 'node:tls'
import { systemClock } from '../../src/net/clock.ts'
import { EventBus } from '../../src/observe/events.ts'
import { connectBackend } from '../../src/proxy/backend-connect.ts'
import type { BackendTls } from '../../src/proxy/backend-tls.ts'
import { BackendError } from '../../src/proxy/destination.ts'
import { type Certificate, CertificateMaker } from '../conformance/certificates.ts'

interface Behaviour {
  readonly offers?: boolean
  /** What comes in the segment of the 220. */
  readonly behind?: string
  readonly answer?: string
}

let folder = ''
let made: Certificate

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'postern-tls-'))
  made = await new CertificateMaker(folder).get()
})
after(() => rmSync(folder, { recursive: true }))

// A server that knows EHLO and STARTTLS; it keeps what it heard, marked by how it heard it.
async function backend(t: TestContext, { offers = true, behind = '', answer = '220 go' }: Behaviour = {}) {
  const heard: string[] = []
  const sockets = new Set<Socket>()
  const listen = (stream: Socket | TLSSocket, how: string) => {
    stream.on('error', () => {})
    stream.on('data', (chunk: Buffer) => {
      const line = chunk.toString().trim()
      heard.push(`${how} ${line}`)
      if (line.startsWith('EHLO'))
        stream.write(offers && how === 'clear' ? '250-mx\r\n250 STARTTLS\r\n' : '250-mx\r\n250 DSN\r\n')
      else if (line === 'STARTTLS') {
        stream.write(`${answer}\r\n${behind}`)
        if (!answer.startsWith('220')) return
        stream.removeAllListeners('data')
        const secureContext = createSecureContext({ cert: made.certificate, key: made.key })
        listen(new TLSSocket(stream as Socket, { isServer: true, secureContext }), 'tls')
      }
    })
  }
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.write('220 mx\r\n')
    listen(socket, 'clear')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  const connect = (tls: Partial<BackendTls>) =>
    connectBackend({
      server: { host: '127.0.0.1', port },
      hostname: 'gw.example.org',
      connectTimeout: 10_000,
      commandTimeout: 10_000,
      clock: systemClock,
      events: new EventBus((_, error) => assert.fail(String(error))),
      tls: { mode: 'opportunistic', ca: undefined, fingerprints: [], ...tls },
    })
  return { connect, heard }
}

function fault(wanted: BackendError['fault'], text: RegExp) {
  return (error: unknown) => error instanceof BackendError && error.fault === wanted && text.test(error.message)
}

suite('TLS towards a backend', () => {
  test('opportunistic takes any certificate, and says EHLO again under TLS', async (t) => {
    const { connect, heard } = await backend(t)
    const connection = await connect({})
    assert.deepEqual([connection.secure, connection.profile.dsn, connection.profile.startTls], [true, true, false])
    assert.deepEqual(heard, ['clear EHLO gw.example.org', 'clear STARTTLS', 'tls EHLO gw.example.org'])
    connection.destroy()
  })

  test('opportunistic goes on in clear where TLS is not offered, or not now', async (t) => {
    for (const behaviour of [{ offers: false }, { answer: '454 4.7.0 not now' }]) {
      const connection = await (await backend(t, behaviour)).connect({})
      assert.equal(connection.secure, false)
      connection.destroy()
    }
  })

  test('required is not content with less', async (t) => {
    await assert.rejects(
      (await backend(t, { offers: false })).connect({ mode: 'required' }),
      fault('tls', /does not offer/),
    )
    await assert.rejects((await backend(t, { answer: '454 no' })).connect({ mode: 'required' }), fault('tls', /454/))
    await assert.rejects(
      (await backend(t)).connect({ mode: 'required' }),
      fault('tls', /not trusted \(DEPTH_ZERO_SELF_SIGNED_CERT\)/),
    )
  })

  test('required trusts an authority of its own, or a fingerprint, and no other', async (t) => {
    const { connect } = await backend(t)
    const { fingerprint256 } = new X509Certificate(made.certificate)
    const shown = fingerprint256.replaceAll(':', '').toLowerCase()
    for (const tls of [{ ca: made.certificate }, { fingerprints: [shown] }]) {
      const connection = await connect({ mode: 'required', ...tls })
      assert.equal(connection.secure, true)
      connection.destroy()
    }
    const other = { mode: 'required', fingerprints: ['00'.repeat(32)] } as const
    await assert.rejects(connect(other), fault('tls', /another fingerprint/))
  })

  test('what comes in clear behind the 220 ends the connection (CVE-2011-0411)', async (t) => {
    for (const behind of ['250 injected\r\n', '250 half a re']) {
      await assert.rejects((await backend(t, { behind })).connect({}), BackendError)
    }
  })
})
