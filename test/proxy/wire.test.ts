// The stream to the client: bounded in both directions, and it knows whether the client is still there.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Wire } from '../../src/proxy/wire.ts'
import { type ConnectionEnd, duplexPair } from '../support/duplex-pair.ts'
import { FakeClock, settle } from '../support/fake-clock.ts'

function wired(): { client: ConnectionEnd; wire: Wire; clock: FakeClock; far: ConnectionEnd } {
  const [client, far] = duplexPair()
  client.on('error', () => {})
  const clock = new FakeClock()
  return { client, far, clock, wire: new Wire(far, clock) }
}

async function read(wire: Wire, timeout = 1000): Promise<string> {
  const got = await wire.read(timeout)
  return typeof got === 'string' ? `<${got}>` : got.toString('latin1')
}

test('what came before anybody asked is read first, then the end', async () => {
  const { client, wire } = wired()
  client.write('one')
  client.write('two')
  client.end()
  await settle()
  assert.deepEqual([wire.gone, wire.hasInput, wire.bytesIn], [true, true, 6])
  assert.deepEqual([await read(wire), await read(wire), await read(wire)], ['one', 'two', '<end>'])
})

test('a read ends at its time, with octets before it, or when the client leaves', async () => {
  const { client, wire, clock } = wired()
  const late = read(wire, 1000)
  await clock.advance(1000)
  assert.equal(await late, '<timeout>')
  const early = read(wire, 1000)
  await clock.advance(999)
  client.write('x')
  await settle()
  assert.equal(await early, 'x')
  assert.equal(await read(wire, 0), '<timeout>')
  const gone = read(wire, 1000)
  client.reset()
  await settle()
  assert.equal(await gone, '<end>')
})

test('a shorter wait after a longer one ends at its own time', async () => {
  const { client, wire, clock } = wired()
  const first = read(wire, 100_000)
  client.write('x')
  await settle()
  assert.equal(await first, 'x')
  const second = read(wire, 10)
  await clock.advance(10)
  assert.equal(await second, '<timeout>')
  wire.destroy()
  assert.equal(clock.pending, 0)
})

test('an interrupt ends the read that waits and those that would, not those that find octets', async () => {
  const { client, wire } = wired()
  const waiting = read(wire)
  wire.interrupt()
  assert.equal(await waiting, '<interrupted>')
  client.write('x')
  await settle()
  assert.deepEqual([await read(wire), await read(wire)], ['x', '<interrupted>'])
})

test('no more is kept than a bound, and reading goes on when there is room', async () => {
  const { client, wire, far } = wired()
  let sent = 0
  const piece = Buffer.alloc(16 * 1024, 'x')
  for (; sent < 64; sent++) client.write(piece)
  await settle()
  assert.equal(far.isPaused(), true)
  assert.ok(wire.bytesIn <= 96 * 1024, `${wire.bytesIn}`)
  assert.equal(wire.overrun, true)
  let got = 0
  while (got < 64 * piece.length) {
    got += (await read(wire)).length
    await settle(2)
  }
  assert.deepEqual([got, wire.overrun, far.isPaused()], [64 * piece.length, false, false])
})

test('what was written in one turn leaves in one write', async () => {
  const { client, wire } = wired()
  const chunks: string[] = []
  client.on('data', (chunk: Buffer) => chunks.push(chunk.toString()))
  wire.write('250 a\r\n')
  wire.write('250 b\r\n')
  await wire.flush(1000)
  await wire.flush(1000)
  await settle()
  assert.deepEqual([chunks, wire.bytesOut], [['250 a\r\n250 b\r\n'], 14])
})

test('a client that does not read is given up after the time', async () => {
  const { wire, clock } = wired()
  let flushing: Promise<void> | undefined
  for (let i = 0; i < 100 && flushing === undefined; i++) {
    wire.write('x'.repeat(64 * 1024))
    flushing = wire.flush(5000)
  }
  assert.ok(flushing !== undefined)
  await clock.advance(4999)
  assert.equal(wire.gone, false)
  await clock.advance(1)
  await flushing
  assert.equal(wire.gone, true)
})

test('told once when octets come that nobody waits for, and once when the client leaves', async (t) => {
  const { client, wire } = wired()
  const [onInput, onGone] = [t.mock.fn(), t.mock.fn()]
  wire.onInput = onInput
  wire.onGone = onGone
  client.write('a')
  client.write('b')
  await settle()
  client.end()
  client.reset()
  await settle()
  assert.deepEqual([onInput.mock.callCount(), onGone.mock.callCount()], [1, 1])
})

test('the end waits for the client for a bounded time', async () => {
  const { client, wire, clock } = wired()
  client.resume()
  let done = false
  wire.write('221 bye\r\n')
  const ending = wire.end(2000).then(() => {
    done = true
  })
  client.write('what nobody reads')
  await clock.advance(1999)
  assert.deepEqual([done, client.readableEnded], [false, true])
  await clock.advance(1)
  await ending
  assert.equal(clock.pending, 0)
})
