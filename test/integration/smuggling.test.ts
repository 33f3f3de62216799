// The oracle at its second level: a running gateway between real sockets is fed what smugglers send. The backend gets exactly the messages
// that the client was told 250 for, each as the client strictly sent it, and all of what is written to it has one reading for every server.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import fc from 'fast-check'
import { App } from '../../src/app.ts'
import { loadConfig } from '../../src/config/load.ts'
import { type BackendMessage, HarnessEvents } from '../conformance/backend-record.ts'
import { FakeBackend } from '../conformance/fake-backend.ts'
import { asDelivered, belowTrace } from '../support/delivered.ts'
import { FakeLog } from '../support/fake-log.ts'
import {
  assertOneReading,
  ENVELOPE,
  EVIL,
  hostileData,
  readSession,
  SEQUENCES,
  STRICT,
  sloppyData,
} from '../support/smuggling.ts'
import { cutAt, cuts, octets } from '../support/splits.ts'
import { Talk } from '../support/talk.ts'

// What the scripted backend says to a dot, and so what the client hears for a message that was taken.
const TAKEN = '250 2.0.0 queued\r\n'
const REFUSED = /^550 5\.5\.2 /

let folder = ''
let app: App
let backend: FakeBackend
let port = 0

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'postern-smuggling-'))
  const certificate = () => Promise.reject(new Error('no TLS here'))
  backend = await FakeBackend.listen({ rules: [], auth: false, events: new HarnessEvents(), certificate })
  const text = JSON.stringify({
    hostname: 'mx.example.com',
    listeners: [{ name: 'mx', address: '127.0.0.1:0' }],
    domains: ['example.com'],
    backend: { servers: [`127.0.0.1:${backend.port}`] },
    data_dir: join(folder, 'data'),
    admin: { address: 'off' },
    // Nobody is slowed down or sent away for what is sent here; a session that waits for more than was sent soon ends.
    limits: { errors_soft: 1000, errors: 1000, connections_per_address: 1000, idle: '5s' },
  })
  app = await App.create({ loaded: loadConfig({ text, env: {} }), log: new FakeLog() })
  const [listener] = await app.start()
  port = listener?.address.port ?? 0
})
after(async () => {
  await app.stop()
  await backend.close()
  await rm(folder, { recursive: true, force: true })
})

interface Passage {
  /** The replies behind 354. */
  readonly replies: readonly string[]
  readonly delivered: readonly BackendMessage[]
}

/** Sends an envelope step by step, and behind 354 the octets, one write a piece. */
async function pass(pieces: readonly Buffer[]): Promise<Passage> {
  const first = backend.record.messages.length
  const talk = await Talk.greeted(port)
  const [mail = '', rcpt = '', data = ''] = ENVELOPE.match(/.*\r\n/g) ?? []
  await talk.ask(mail, '250')
  await talk.ask(rcpt, '250')
  await talk.ask(data, '354')
  for (const piece of pieces) {
    talk.send(piece)
    // The pieces are to arrive as pieces: another turn of the event loop, which the gateway shares.
    await new Promise(setImmediate)
  }
  talk.send('QUIT\r\n')
  return { replies: await talk.rest(), delivered: backend.record.messages.slice(first) }
}

/** Checks what came of the octets behind 354; says how many messages were delivered. */
function check(sent: Buffer, { replies, delivered }: Passage): number {
  assert.equal(delivered.length, replies.filter((reply) => reply === TAKEN).length, 'as many as were promised')
  const strict = readSession(Buffer.concat([octets(ENVELOPE), sent]), STRICT).messages.map(
    ({ mail, rcpts, content }) => ({
      from: mail,
      recipients: rcpts,
      // A bare LF ends a line in the messages that are taken, so the dot behind it is a stuffed one.
      content: asDelivered(content.replace(/(?<!\r)\n\.?/g, '\r\n')),
    }),
  )
  // A message that the client sent may be refused: what was delivered are some of them, in order.
  for (const message of delivered) {
    const seen = asStrict(message)
    while (strict.length > 0 && JSON.stringify(strict[0]) !== JSON.stringify(seen)) strict.shift()
    assert.notEqual(strict.shift(), undefined, `never sent like this: ${JSON.stringify(seen)}`)
  }
  return delivered.length
}

function asStrict({ from, recipients, content }: BackendMessage) {
  const text = content.toString('latin1')
  const own = belowTrace(text)
  assert.notEqual(own, undefined, `no trace header: ${text.slice(0, 200)}`)
  return {
    from: `<${from}>`,
    recipients: recipients.map((address) => `<${address}>`),
    content: own,
  }
}

const PLACES = new Map([
  ['in the header', 'Subject: s'],
  ['in the middle', 'Subject: s\r\n\r\nfirst'],
  ['behind an empty line', 'Subject: s\r\n\r\n'],
  ['behind a bare LF', 'Subject: s\r\n\r\na\nb'],
  ['behind stuffed dots', 'Subject: s\r\n\r\n..\r\n..b'],
  ['behind what fits one buffer', `Subject: s\r\n\r\n${`${'x'.repeat(70)}\r\n`.repeat(910)}`],
])

suite('a second message behind what is no end of data', () => {
  for (const [name, sequence] of SEQUENCES) {
    test(`${name}: the message is refused as a whole, wherever it stands and however it is split`, async () => {
      for (const [place, text] of PLACES) {
        const sent = octets(text + sequence + EVIL)
        for (const at of [[], [text.length], [text.length + 1], [text.length + 2], [text.length + sequence.length]]) {
          const passage = await pass(cutAt(sent, at))
          assert.equal(check(sent, passage), 0, `${place}, cut at ${at}`)
          assert.match(passage.replies[0] ?? '', REFUSED, `${place}, cut at ${at}`)
          assert.match(passage.replies[1] ?? '', /^221 /)
          assert.equal(passage.replies.length, 2)
        }
      }
    })
  }
})

suite('any octets behind DATA', () => {
  for (const [title, data, numRuns] of [
    ['hostile', hostileData(), 250],
    ['sloppy', sloppyData(), 150],
  ] as const) {
    test(`${numRuns} ${title} messages`, async (t) => {
      const counts = { delivered: 0, nothing: 0 }
      await fc.assert(
        fc.asyncProperty(data, cuts(4), async (text, at) => {
          const sent = octets(text)
          counts[check(sent, await pass(cutAt(sent, at))) > 0 ? 'delivered' : 'nothing']++
        }),
        { numRuns },
      )
      // Neither side may be empty, or the property says nothing.
      assert.ok(Math.min(counts.delivered, counts.nothing) > 5, JSON.stringify(counts))
      t.diagnostic(JSON.stringify(counts))
    })
  }
})

test('well-formed: both messages of one session arrive', async () => {
  const before = backend.record.messages.length
  const talk = await Talk.greeted(port)
  for (const command of ENVELOPE.match(/.*\r\n/g) ?? [])
    await talk.ask(command, command.startsWith('DATA') ? '354' : '250')
  await talk.ask('Subject: s\r\n\r\nfirst\r\n.\r\n', '250')
  for (const line of EVIL.match(/(?:MAIL|RCPT|DATA).*\r\n/g) ?? [])
    await talk.ask(line, line.startsWith('DATA') ? '354' : '250')
  await talk.ask('Subject: second\r\n\r\nSMUGGLED\r\n.\r\n', '250')
  talk.destroy()
  assert.equal(backend.record.messages.length, before + 2)
})

test('all that the backend was sent has one reading, and no line end of another kind', () => {
  const { messages } = assertOneReading(backend.record.raw)
  const seen = messages.map(({ mail, rcpts, content }) => ({ from: mail, rcpts, content }))
  const recorded = backend.record.messages.map(({ from, recipients, content }) => ({
    from: `<${from}>`,
    rcpts: recipients.map((address) => `<${address}>`),
    content: content.toString('latin1'),
  }))
  assert.deepEqual(
    seen.map((m) => ({ ...m, from: m.from.split(' ')[0] })),
    recorded,
  )
  assert.deepEqual(backend.record.violations, [])
})
