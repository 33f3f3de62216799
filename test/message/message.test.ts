// One message while it is held: memory bounded, the rest in a file without a name, everything released whenever it ends.
import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { Message, SpoolError } from '../../src/message/message.ts'
import { cutAt, cuts, octets } from '../support/splits.ts'

function spool(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'postern-spool-'))
  t.after(() => rmSync(dir, { recursive: true }))
  return dir
}

const HEADER = 'Subject: a\r\nX-B: c\r\n\r\n'

function fill(message: Message, bytes: Buffer, positions: readonly number[] = []): void {
  for (const chunk of cutAt(bytes, positions)) {
    message.append(chunk)
    chunk.fill(0) // a copy was promised
  }
}

async function contentOf(message: Message, from = 0): Promise<string> {
  const parts: Buffer[] = []
  for await (const part of message.chunks(from)) parts.push(Buffer.from(part))
  return Buffer.concat(parts).toString('latin1')
}

/** Files of the folder that this process has open, with or without a name. */
function openFilesIn(dir: string): number {
  const fds = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      return '' // the one that was open for the listing
    }
  })
  return fds.filter((path) => path.startsWith(dir)).length
}

test('a small message stays in memory', async (t) => {
  const spoolDir = spool(t)
  const message = new Message({ memory: 1024, spoolDir, headerSize: 1024, headerFields: 1000 })
  fill(message, octets(`${HEADER}text\r\n`), [3, 9])
  await message.settled()
  assert.equal(message.size, HEADER.length + 6)
  assert.equal((await message.bytes()).toString(), `${HEADER}text\r\n`)
  assert.deepEqual(
    message.header().fields.map((f) => f.name),
    ['Subject', 'X-B'],
  )
  assert.deepEqual([openFilesIn(spoolDir), message.lagging], [0, false])
  message.dispose()
})

test('above `memory` it goes to a file that no folder shows, and is read back whole', async (t) => {
  const spoolDir = spool(t)
  const message = new Message({ memory: 64, spoolDir, headerSize: 1024, headerFields: 1000 })
  const text = HEADER + 'line of text\r\n'.repeat(20_000)
  fill(message, octets(text), [10, 70, 1000, 100_000])
  await message.settled()
  assert.deepEqual(readdirSync(spoolDir), [])
  assert.equal(openFilesIn(spoolDir), 1)
  assert.ok(message.head.length <= 64)
  assert.equal(message.size, text.length)
  assert.equal(await contentOf(message), text)
  assert.equal((await message.bytes()).toString('latin1'), text)
  for (const from of [1, 63, 64, 65, 70_000, text.length - 1, text.length]) {
    assert.equal(await contentOf(message, from), text.slice(from), `from ${from}`)
  }
  message.dispose()
  await assert.doesNotReject(message.settled())
  assert.equal(openFilesIn(spoolDir), 0)
})

test('however it is cut, the same message comes back', async (t) => {
  const spoolDir = spool(t)
  const line = fc.constantFrom('Subject: x\r\n', '\r\n', 'text\r\n', ' fold\r\n', 'x'.repeat(90))
  await fc.assert(
    fc.asyncProperty(
      fc.array(line, { maxLength: 40 }),
      cuts(),
      fc.integer({ min: 1, max: 400 }),
      async (lines, at, memory) => {
        const text = lines.join('')
        const message = new Message({ memory, spoolDir, headerSize: 200, headerFields: 1000 })
        fill(message, octets(text), at)
        await message.settled()
        assert.equal(await contentOf(message), text)
        assert.equal(message.size, text.length)
        message.dispose()
      },
    ),
    { numRuns: 80 },
  )
})

test('the header stays in memory as a whole, up to its limit', async (t) => {
  const spoolDir = spool(t)
  const storage = { memory: 100, spoolDir, headerSize: 100_000, headerFields: 100_000 }
  const header = `${'X-Long: value\r\n'.repeat(3000)}X-Last: 1\r\n\r\n`
  const message = new Message(storage)
  fill(message, octets(`${header}${'body\r\n'.repeat(50_000)}`))
  await message.settled()
  assert.equal(message.header().fields.at(-1)?.name, 'X-Last')
  assert.ok(message.head.length < header.length + 20_000, `${message.head.length}`)
  message.dispose()
  const endless = new Message(storage)
  fill(endless, octets('X-Long: value\r\n'.repeat(50_000)))
  await endless.settled()
  assert.ok(endless.head.length <= 100_000 + 20_000, `${endless.head.length}`)
  assert.ok(endless.header().end > storage.headerSize, 'the limit of the header is seen to be crossed')
  endless.dispose()
})

test('a message without a header does not stay in memory for the sake of one', async (t) => {
  const spoolDir = spool(t)
  for (const start of ['\r\n', 'no field here\r\n', ' a fold first\r\n']) {
    const message = new Message({ memory: 100, spoolDir, headerSize: 100_000, headerFields: 100_000 })
    fill(message, octets(start + 'text: like a field\r\n'.repeat(10_000)))
    await message.settled()
    assert.ok(message.head.length < 20_000, `${JSON.stringify(start)}: ${message.head.length}`)
    message.dispose()
  }
})

test('it is lagging while the disk is behind, and not after it has settled', async (t) => {
  const message = new Message({ memory: 10, spoolDir: spool(t), headerSize: 10, headerFields: 1000 })
  fill(message, octets(HEADER))
  for (let i = 0; i < 10; i++) message.append(Buffer.alloc(64 * 1024, 'x'))
  assert.equal(message.lagging, true)
  await message.settled()
  assert.equal(message.lagging, false)
  message.dispose()
})

test('an interrupted reader leaves nothing behind', async (t) => {
  const spoolDir = spool(t)
  const message = new Message({ memory: 10, spoolDir, headerSize: 10, headerFields: 1000 })
  fill(message, octets(HEADER + 'x'.repeat(300_000)))
  for await (const chunk of message.chunks()) {
    if (chunk.length > 0) break
  }
  message.dispose()
  await message.settled()
  assert.equal(openFilesIn(spoolDir), 0)
})

test('dispose at every moment releases the file', async (t) => {
  const spoolDir = spool(t)
  const moments: ((message: Message) => Promise<void>)[] = [
    async () => {},
    async (message) => message.append(Buffer.alloc(1000)),
    async (message) => {
      message.append(Buffer.alloc(200_000))
    },
    async (message) => {
      message.append(Buffer.alloc(200_000))
      await Promise.resolve()
    },
    async (message) => {
      message.append(Buffer.alloc(200_000))
      await new Promise((resolve) => setImmediate(resolve))
    },
    async (message) => {
      message.append(Buffer.alloc(200_000))
      await message.settled()
      message.append(Buffer.alloc(200_000))
    },
  ]
  for (const moment of moments) {
    const message = new Message({ memory: 10, spoolDir, headerSize: 10, headerFields: 1000 })
    fill(message, octets(HEADER))
    await moment(message)
    message.dispose()
    message.dispose()
    message.append(Buffer.alloc(100_000))
    await message.settled()
    assert.equal(openFilesIn(spoolDir), 0)
    assert.deepEqual(readdirSync(spoolDir), [])
    assert.equal(message.head.length, 0)
  }
})

test('dispose while a reader waits for the disk ends the reader', async (t) => {
  const spoolDir = spool(t)
  const message = new Message({ memory: 10, spoolDir, headerSize: 10, headerFields: 1000 })
  fill(message, octets(HEADER + 'x'.repeat(300_000)))
  const reader = message.chunks()
  await reader.next()
  const waiting = reader.next()
  message.dispose()
  // With an octet or an error, but it ends; and never with the octets of another file.
  await waiting.then(
    (piece) => assert.match(piece.value?.toString() ?? '', /^[x\r\n]*$/),
    (error: unknown) => assert.ok(error instanceof SpoolError),
  )
  await message.settled()
  assert.equal(openFilesIn(spoolDir), 0)
})

test('a folder that is not there is a SpoolError, told when it settles', async () => {
  const message = new Message({ memory: 10, spoolDir: '/nowhere/at/all', headerSize: 10, headerFields: 1000 })
  fill(message, octets(HEADER + 'x'.repeat(200_000)))
  await assert.rejects(message.settled(), SpoolError)
  await assert.rejects(contentOf(message), SpoolError)
  message.append(Buffer.alloc(10))
  await assert.rejects(message.settled(), SpoolError)
  message.dispose()
})

test('a folder that takes no files is a SpoolError', {
  skip: process.getuid?.() === 0 && 'root may write anywhere',
}, async (t) => {
  const spoolDir = spool(t)
  chmodSync(spoolDir, 0o500)
  t.after(() => chmodSync(spoolDir, 0o700))
  const message = new Message({ memory: 10, spoolDir, headerSize: 10, headerFields: 1000 })
  fill(message, octets(HEADER + 'x'.repeat(200_000)))
  await assert.rejects(message.settled(), SpoolError)
  message.dispose()
})

test('nobody is told of a failure that nobody waits for', async (t) => {
  const unhandled = t.mock.fn()
  process.on('unhandledRejection', unhandled)
  t.after(() => process.off('unhandledRejection', unhandled))
  const message = new Message({ memory: 10, spoolDir: '/nowhere/at/all', headerSize: 10, headerFields: 1000 })
  fill(message, octets(HEADER + 'x'.repeat(200_000)))
  message.dispose()
  await message.settled().catch(() => {})
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(unhandled.mock.callCount(), 0)
})

test('a header that comes in two octets at a time is looked through once', { timeout: 20_000 }, () => {
  const message = new Message({ memory: 1000, spoolDir: tmpdir(), headerSize: 256 * 1024, headerFields: 1000 })
  const pieces = [Buffer.from('a:'), Buffer.from('\r\n')]
  // 256 KiB of header: looking through it anew for every piece would take minutes.
  for (let i = 0; i < 64 * 1024; i++) for (const piece of pieces) message.append(piece)
  assert.equal(message.header().fields.length, 1001)
  message.dispose()
})
