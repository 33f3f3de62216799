// postern demo: the table of the real thing, and that an outcome other than the expected one is seen, marked and counted.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { dirname } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { CLOSED, converse } from '../../src/commands/demo/client.ts'
import { contentProblem } from '../../src/commands/demo/outcome.ts'
import { type Sample, samples } from '../../src/commands/demo/samples.ts'
import { tableLines } from '../../src/commands/demo/table.ts'
import { demo } from '../../src/commands/demo.ts'
import { folder, postern, start } from './postern.ts'

const WIDTH = 100

test('demo --once in an empty folder: all as expected, nothing left behind', async (t) => {
  const cwd = folder(t)
  const { status, stdout, stderr } = await postern(t, cwd, ['demo', '--once'])
  const lines = stdout.split('\n')
  assert.equal(status, 0, `${stdout}${stderr}`)
  assert.equal(stderr, '')
  const rows = lines.filter((line) => line.startsWith('ok  '))
  assert.equal(rows.length, samples().length)
  for (const { what, stored } of samples()) {
    const row = rows.find((line) => line.startsWith(`ok  ${what} `)) ?? ''
    assert.match(row, stored === undefined ? / 55\d 5\.\d\.\d {2}not stored: / : / 250 2\.0\.0 {2}new\/\S+$/)
  }
  assert.ok(lines.includes(`${rows.length} of ${rows.length} as expected`))
  const table = lines.slice(lines.indexOf('') + 1)
  assert.ok(
    table.every((line) => line.length <= WIDTH),
    stdout,
  )
  assert.deepEqual(readdirSync(cwd), [])
})

test('a reader that leaves early ends the demonstration, and nothing is left behind', async (t) => {
  const cwd = folder(t)
  const child = start(t, cwd, ['demo', '--once'])
  child.stdout.destroy()
  const [stderr] = await Promise.all([text(child.stderr), once(child, 'exit')])
  assert.equal(stderr, '')
  assert.deepEqual(readdirSync(cwd), [])
})

test('demo says how to send more, runs on, and stops cleanly at SIGINT', async (t) => {
  const cwd = folder(t)
  const child = start(t, cwd, ['demo'])
  const lines: string[] = []
  for await (const line of createInterface(child.stdout)) {
    lines.push(line)
    if (line.startsWith('Ctrl-C')) child.kill('SIGINT')
  }
  if (child.exitCode === null) await once(child, 'exit')
  assert.equal(child.exitCode, 0)
  assert.equal(lines.at(-1), 'Stopping.')
  assert.equal(readdirSync(cwd).length, 1, 'the folder of a running demonstration is kept')
})

/** Runs the demonstration in this process. `hear` is given each printed text. */
async function run(given: readonly Sample[], hear: (text: string, stop: AbortController) => void = () => {}) {
  const stop = new AbortController()
  const printed: string[] = []
  const print = (text: string) => {
    printed.push(text)
    hear(text, stop)
  }
  const status = await demo({ once: true, ports: [0], samples: given, stop: stop.signal, print })
  return { status, printed }
}

function sample(what: string): Sample {
  const found = samples().find((one) => one.what === what)
  assert.ok(found)
  return found
}

const note = sample('a plain note')
const relaying = sample('relaying to elsewhere')

test('status 0 if every outcome is as expected', async () => {
  const { status, printed } = await run([note, relaying])
  assert.equal(status, 0)
  assert.equal(printed.at(-1), '2 of 2 as expected')
})

for (const [what, wrong, explanation] of [
  ['an answer', { answers: note.answers.with(3, '550 5.1.1') }, /expected "550 5\.1\.1", got "250 2\.1\.5 Ok"/],
  ['an answer too few', { answers: note.answers.slice(0, -1) }, /answer 8: expected none, got "\(closed\)"/],
  ['an answer too many', { answers: [...note.answers, '250'] }, /answer 9: expected "250", got none/],
  ['a file that should not be', { stored: undefined }, /files stored: expected 0, got 1/],
  ['other octets', { stored: Buffer.from('Subject: other\r\n\r\n') }, /not the octets that were sent/],
] as const) {
  test(`an outcome other than expected: ${what}`, async () => {
    const { status, printed } = await run([relaying, { ...note, ...wrong }])
    assert.equal(status, 1)
    assert.equal(printed.filter((line) => line.startsWith('ok  ')).length, 1)
    assert.equal(printed.filter((line) => line.startsWith('!!  a plain note ')).length, 1)
    assert.match(printed.join('\n').replace(/\n +/g, ' '), explanation)
    assert.match(printed.at(-1) ?? '', /^1 of 2 as expected; NOT AS EXPECTED: 1/)
  })
}

test('a missing file is an unexpected outcome', async () => {
  const { status, printed } = await run([{ ...relaying, stored: Buffer.from('Subject: x\r\n\r\n') }])
  assert.equal(status, 1)
  assert.match(printed.join('\n'), /files stored: expected 1, got 0/)
})

test('ended before all samples were sent is no success', async () => {
  const { status, printed } = await run([note, relaying], (_, stop) => stop.abort())
  assert.equal(status, 1)
  assert.equal(printed.at(-1), 'Interrupted; samples not sent: 2')
})

test('a port that is taken: the next one; the gateway is ready, and its folder stays', async (t) => {
  const server = await serving(t)
  const stop = new AbortController()
  const printed: string[] = []
  const ready = Promise.withResolvers<Response>()
  const print = (text: string) => {
    printed.push(text)
    const url = /curl (\S+readyz)/.exec(text)?.[1]
    if (url !== undefined) ready.resolve(fetch(url, { headers: { connection: 'close' } }))
  }
  const ended = demo({ once: false, ports: [portOf(server), 0], samples: [note], stop: stop.signal, print })
  const response = await ready.promise
  assert.equal(response.status, 200)
  await response.text()
  stop.abort()
  assert.equal(await ended, 0)
  const maildir = printed[1]?.trim() ?? ''
  t.after(() => rmSync(dirname(maildir), { recursive: true, force: true }))
  assert.ok(existsSync(maildir))
  assert.ok(!printed.join('\n').includes(`127.0.0.1:${portOf(server)},`))
})

async function serving(t: TestContext, answer?: string): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    if (answer !== undefined) socket.end(answer)
  })
  t.after(() => server.close())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port
}

test('the client keeps whole replies only', async (t) => {
  const server = await serving(t, '220-one\r\n220 two\r\n250 bare\n250-unfinished\r\n')
  const heard = await converse({ host: '127.0.0.1', port: portOf(server) }, [])
  assert.deepEqual(heard, ['220-one / 220 two', '250 bare\n250-unfinished', CLOSED])
})

test('the client waits no longer than its patience', async (t) => {
  const server = await serving(t)
  const heard = await converse({ host: '127.0.0.1', port: portOf(server) }, [{ send: Buffer.alloc(0), replies: 1 }], 10)
  assert.deepEqual(heard, ['(lost: no answer for 0.01 s)'])
})

const MESSAGE = Buffer.from('Subject: x\r\n\r\ntext\r\n')
for (const [added, problem] of [
  ['Received: from a\r\n\tby b\r\nX-Spam-Flag: NO\r\n', undefined],
  ['X-Spam-Flag: NO\r\n', /Received/],
  ['Received: from a\r\nX-Other: 1\r\n', /other than our headers/],
  ['Received: from a\r\n\r\n', /other than our headers/],
  ['Received: from a\r\nstray line\r\n', /other than our headers/],
] as const) {
  test(`before a stored message: ${JSON.stringify(added)}`, () => {
    const found = contentProblem(MESSAGE, Buffer.concat([Buffer.from(added), MESSAGE]))
    if (problem === undefined) assert.equal(found, undefined)
    else assert.match(found ?? '', problem)
  })
}

test('a stored message that lost its end is seen', () => {
  assert.match(contentProblem(MESSAGE, MESSAGE.subarray(0, -4)) ?? '', /4 octets are missing/)
})

test('the table stays within its width, and a stranger cannot write on the terminal', () => {
  const long = Array.from({ length: 40 }, (_, i) => `word${i}`).join(' ')
  const outcome = { what: 'x', answer: `550 5.7.1 ${long}\x1b[2J`, files: [], problems: [`got "${long}\x07"`] }
  const lines = tableLines([outcome])
  assert.ok(lines.every((line) => line.length <= WIDTH))
  assert.doesNotMatch(lines.join(''), /[\x00-\x1f]/)
  assert.ok(lines.join(' ').includes('word39'))
})
