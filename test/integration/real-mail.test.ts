// Difficult and malformed real messages through a real gateway process: what comes out, at a server and in the Maildir, is byte for byte what
// went in, below the fields that we put on top and but for what support/delivered.ts names. What is no text of lines is refused.
import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { extname, join, relative } from 'node:path'
import { after, before, suite, type TestContext, test } from 'node:test'
import { HarnessEvents } from '../conformance/backend-record.ts'
import { FakeBackend } from '../conformance/fake-backend.ts'
import { asDelivered, belowTrace } from '../support/delivered.ts'
import { DOMAIN, readMaildir, startGateway } from '../support/gateway.ts'
import { skipWithoutData, unpackData } from '../support/shared-data.ts'
import { Talk } from '../support/talk.ts'

const LEAST = 240 // so many messages the collection has, and some
// The collections keep what a parser should find in them beside the messages.
const NO_MESSAGES = new Set(['.json', '.xml', '.out', '.txt', '.bin', '.gitattributes'])

interface Sample {
  readonly name: string
  /** Latin-1, canonical: every LF has its CR, the last line has an end. */
  readonly text: string
  readonly refused: boolean
}

let folder = ''
let samples: readonly Sample[] = []

async function readSamples(place: string): Promise<Sample[]> {
  const entries = await readdir(place, { recursive: true, withFileTypes: true })
  const files = entries.filter((e) => e.isFile() && !e.name.startsWith('.') && !NO_MESSAGES.has(extname(e.name)))
  return Promise.all(
    files.map(async ({ name, parentPath }) => {
      const lines = (await readFile(join(parentPath, name), 'latin1')).replace(/\r?\n/g, '\r\n')
      const text = lines === '' || lines.endsWith('\r\n') ? lines : `${lines}\r\n`
      return { name: relative(place, join(parentPath, name)), text, refused: /\r(?!\n)|\0/.test(text) }
    }),
  )
}

/** Sends all, one a connection, each under the number of its place; gives the last reply to each. */
async function sendAll(port: number): Promise<string[]> {
  const replies: string[] = []
  for (const [i, { text }] of samples.entries()) {
    const talk = await Talk.greeted(port)
    await talk.ask(`MAIL FROM:<sample${i}@example.net> BODY=8BITMIME\r\n`, '250')
    await talk.ask(`RCPT TO:<user@${DOMAIN}>\r\n`, '250')
    await talk.ask('DATA\r\n', '354')
    // RFC 5321 4.5.2
    talk.send(text.replace(/(?<=^|\r\n)\./g, '..'))
    talk.send('.\r\n')
    replies.push((await talk.reply()) ?? '')
    talk.destroy()
  }
  return replies
}

interface Arrived {
  readonly from: string
  readonly text: string
}

/** Compares what arrived with what was sent; counts. */
function compare(t: TestContext, replies: readonly string[], arrived: readonly Arrived[]): void {
  const counts = { sent: samples.length, same: 0, changed: 0, refused: 0 }
  const byNumber = new Map(arrived.map(({ from, text }) => [Number(/\d+/.exec(from)?.[0]), text]))
  assert.equal(byNumber.size, arrived.length, 'none twice')
  for (const [i, sample] of samples.entries()) {
    const text = byNumber.get(i)
    if (sample.refused) {
      assert.match(replies[i] ?? '', /^550 5\.5\.2 /, sample.name)
      assert.equal(text, undefined, sample.name)
      counts.refused++
      continue
    }
    assert.match(replies[i] ?? '', /^250 /, sample.name)
    const expected = asDelivered(sample.text)
    assert.ok(belowTrace(text ?? '') === expected, `${sample.name} is not the same`)
    counts[expected === sample.text ? 'same' : 'changed']++
  }
  t.diagnostic(JSON.stringify(counts))
  assert.ok(counts.sent >= LEAST && counts.refused > 0, JSON.stringify(counts))
}

suite('real messages', { skip: skipWithoutData('mime') }, () => {
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'postern-real-mail-'))
    unpackData('mime', folder)
    samples = await readSamples(folder)
  })
  after(() => rm(folder, { recursive: true, force: true }))

  test('to a server', async (t) => {
    const certificate = () => Promise.reject(new Error('no TLS here'))
    const backend = await FakeBackend.listen({ rules: [], auth: false, events: new HarnessEvents(), certificate })
    const gateway = await startGateway({ folder: join(folder, 'to-server'), backendPort: backend.port })
    try {
      const replies = await sendAll(gateway.port)
      const { messages, violations } = backend.record
      assert.deepEqual(violations, [])
      compare(
        t,
        replies,
        messages.map(({ from, content }) => ({ from, text: content.toString('latin1') })),
      )
    } finally {
      await gateway.stop()
      await backend.close()
    }
  })

  test('to the Maildir', async (t) => {
    const place = join(folder, 'to-maildir')
    const gateway = await startGateway({ folder: place })
    try {
      const replies = await sendAll(gateway.port)
      const arrived = (await readMaildir(place)).map((message) => {
        const text = message.toString('latin1')
        const own = /^Return-Path: <(.*)>\r\nDelivered-To: .*\r\n/.exec(text)
        return { from: own?.[1] ?? '', text: text.slice(own?.[0].length ?? 0) }
      })
      compare(t, replies, arrived)
    } finally {
      await gateway.stop()
    }
  })
})
