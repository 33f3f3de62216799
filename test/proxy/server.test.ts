// A listener: its caps, and how it stops. Real sockets on loopback, a clock that stands still.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { MaildirDestination } from '../../src/proxy/maildir-destination.ts'
import { ConnectionCounter, SmtpServer } from '../../src/proxy/server.ts'
import { buildGateway, type Gateway } from '../support/dialog-gateway.ts'
import { settle } from '../support/fake-clock.ts'

interface Running extends Gateway {
  readonly server: SmtpServer
  readonly counter: ConnectionCounter
  client(): Promise<Client>
}

async function start(t: TestContext, limits: string): Promise<Running> {
  const script = { file: 'postern.yaml', title: '', yaml: `\nlimits: ${limits}\n`, settings: [], steps: [] }
  const gateway = await buildGateway(script, () => assert.fail('no backend is dialled'))
  const { clock, spoolDir } = gateway
  const path = join(mkdtempSync(join(tmpdir(), 'postern-server-')), 'mail')
  const deps = { ...gateway.deps, destination: new MaildirDestination({ path, hostname: 'mx', clock }) }
  const counter = new ConnectionCounter()
  const address = { host: '127.0.0.1', port: 0 }
  const server = new SmtpServer({ listener: gateway.listener, address, deps, counter })
  const { port } = await server.listen()
  const clients: Client[] = []
  t.after(async () => {
    for (const client of clients) client.socket.destroy()
    await server.stop()
    rmSync(join(path, '..'), { recursive: true })
    rmSync(spoolDir, { recursive: true })
  })
  const client = async () => {
    const one = new Client(connect({ host: '127.0.0.1', port, allowHalfOpen: true }))
    clients.push(one)
    return one
  }
  return { ...gateway, server, counter, client }
}

class Client {
  readonly socket: Socket
  #text = ''
  #ended = false
  #wake: (() => void) | undefined

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (chunk) => {
      this.#text += chunk.toString('latin1')
      this.#wake?.()
    })
    const over = () => {
      this.#ended = true
      this.#wake?.()
    }
    socket.on('end', over)
    socket.on('close', over)
    socket.on('error', () => {})
  }

  say(line: string): void {
    this.socket.write(`${line}\r\n`)
  }

  /** The next reply; the empty text at the end of the connection. */
  async reply(): Promise<string> {
    for (;;) {
      const match = /^(?:\d{3}-.*\r\n)*\d{3} .*\r\n/.exec(this.#text)
      if (match !== null) {
        this.#text = this.#text.slice(match[0].length)
        return match[0].trimEnd()
      }
      if (this.#ended) return ''
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  async quit(): Promise<void> {
    this.say('QUIT')
    assert.match(await this.reply(), /^221 /)
    assert.equal(await this.reply(), '')
    this.socket.end()
    if (!this.socket.closed) await new Promise((resolve) => this.socket.once('close', resolve))
  }
}

async function until(come: () => boolean): Promise<void> {
  while (!come()) await settle(1)
}

test('over connections_per_address: 421 4.7.0, and room again when one has left', async (t) => {
  const { client, counter } = await start(t, '{connections_per_address: 2}')
  const first = await client()
  assert.match(await first.reply(), /^220 /)
  assert.match(await (await client()).reply(), /^220 /)
  const third = await client()
  assert.match(await third.reply(), /^421 4\.7\.0 /)
  assert.equal(await third.reply(), '')
  await first.quit()
  await until(() => counter.all === 1)
  assert.match(await (await client()).reply(), /^220 /)
})

test('over connections: 421 4.3.2, which comes before the cap of an address', async (t) => {
  const { client } = await start(t, '{connections: 1, connections_per_address: 1}')
  assert.match(await (await client()).reply(), /^220 /)
  assert.match(await (await client()).reply(), /^421 4\.3\.2 /)
})

test('a counter that went up comes down, however the connection ends', async (t) => {
  const { client, counter, server } = await start(t, '{}')
  const [one, two, three] = [await client(), await client(), await client()]
  for (const each of [one, two, three]) assert.match(await each.reply(), /^220 /)
  assert.deepEqual([counter.all, counter.of('127.0.0.1'), server.openSessions], [3, 3, 3])
  await one.quit()
  two.socket.resetAndDestroy()
  three.socket.end()
  await until(() => counter.all === 0)
  assert.deepEqual([counter.of('127.0.0.1'), server.openSessions], [0, 0])
})

test('stop ends idle sessions at once, and takes nobody more', async (t) => {
  const { client, server, counter } = await start(t, '{}')
  const idle = await client()
  assert.match(await idle.reply(), /^220 /)
  const stopped = server.stop()
  assert.match(await idle.reply(), /^421 4\.3\.2 /)
  idle.socket.end()
  await stopped
  assert.equal(counter.all, 0)
  const late = await client()
  assert.equal(await late.reply(), '')
})

test('stop waits for a message that is coming in, for stop_grace and no longer', async (t) => {
  const { client, server, clock, counter } = await start(t, '{stop_grace: 30s}')
  const busy = await client()
  for (const line of ['EHLO client.example.net', 'MAIL FROM:<a@example.net>', 'RCPT TO:<b@example.org>', 'DATA']) {
    await busy.reply()
    busy.say(line)
  }
  assert.match(await busy.reply(), /^354 /)
  busy.say('half a message')
  let done = false
  const stopped = server.stop().then(() => {
    done = true
  })
  await clock.advance(29_999)
  assert.deepEqual([done, counter.all], [false, 1])
  await clock.advance(1)
  assert.match(await busy.reply(), /^421 4\.3\.2 /)
  busy.socket.end()
  await stopped
})

test('an address that is taken is an error of listen', async (t) => {
  const { deps, listener, server: _, ...rest } = await start(t, '{}')
  const options = { listener, deps, counter: rest.counter }
  const one = new SmtpServer({ ...options, address: { host: '127.0.0.1', port: 0 } })
  const { port } = await one.listen()
  const two = new SmtpServer({ ...options, address: { host: '127.0.0.1', port } })
  await assert.rejects(two.listen(), { code: 'EADDRINUSE' })
  await one.stop()
})
