// postern check: what it finds, how it says so, and the exit status. The backend is a few lines of script on loopback.
import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type TestContext, test } from 'node:test'
import { settingFindings } from '../../src/commands/check/settings.ts'
import { check } from '../../src/commands/check.ts'
import { loadConfig } from '../../src/config/load.ts'
import { folder, postern } from './postern.ts'

/** A server on a free port; resolves to `host:port`. */
async function listen(t: TestContext, serve: (socket: Socket) => void): Promise<string> {
  const server = createServer(serve)
  t.after(() => server.close())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

interface Script {
  readonly greeting?: string
  readonly ehlo?: string
  readonly mail?: string
  readonly rcpt?: string
}

interface Backend {
  readonly address: string
  readonly commands: string[]
  /** Resolves when the first connection is closed. */
  readonly closed: Promise<void>
}

async function backend(t: TestContext, script: Script = {}): Promise<Backend> {
  const commands: string[] = []
  const ehlo = script.ehlo ?? '250-mail.example.org\r\n250-SIZE 10240000\r\n250-PIPELINING\r\n250 8BITMIME'
  const answers = new Map([
    ['EHLO', ehlo],
    ['MAIL', script.mail ?? '250 2.1.0 Ok'],
    ['RCPT', script.rcpt ?? '554 5.7.1 Relay access denied'],
    ['RSET', '250 2.0.0 Ok'],
  ])
  const { promise: closed, resolve: close } = Promise.withResolvers<void>()
  const address = await listen(t, (socket) => {
    socket.once('close', () => close())
    socket.write(`${script.greeting ?? '220 mail.example.org ESMTP'}\r\n`)
    createInterface(socket).on('line', (line) => {
      commands.push(line)
      const answer = answers.get(line.slice(0, 4))
      if (answer === undefined) socket.end('221 2.0.0 Bye\r\n')
      else socket.write(`${answer}\r\n`)
    })
  })
  return { address, commands, closed }
}

const BASE = 'listeners: [{name: mx, address: "127.0.0.1:0"}]\nadmin: {address: off}\n'

/** The configuration in a folder of its own, with addresses that are free unless `text` names others. */
async function checked(t: TestContext, text: string): Promise<{ status: number; lines: string[] }> {
  const path = join(folder(t), 'postern.yaml')
  writeFileSync(path, text.includes('listeners:') ? text : `${BASE}${text}`)
  const lines: string[] = []
  return { status: await check({ path, print: (line) => lines.push(line) }), lines }
}

function withServers(...servers: readonly string[]): string {
  return `domains: [example.org]\nbackend: {servers: ${JSON.stringify(servers)}}\n`
}

function assertLine(lines: readonly string[], pattern: RegExp): void {
  assert.ok(
    lines.some((line) => pattern.test(line)),
    `${pattern} is not among\n${lines.join('\n')}`,
  )
}

test('a good configuration with a good backend: status 0, every line ok', async (t) => {
  const { address, commands, closed } = await backend(t)
  const { status, lines } = await checked(t, `${withServers(address)}limits: {message_size: 1MiB}\n`)
  assert.equal(status, 0)
  assert.deepEqual(
    lines.filter((line) => !line.startsWith('ok    ')),
    [],
  )
  const announced = '220 mail.example.org ESMTP; SIZE 10240000, PIPELINING, 8BITMIME, no SMTPUTF8, no DSN; no TLS'
  assert.ok(lines.includes(`ok    backend ${address}: ${announced}`))
  assertLine(lines, /^ok {4}relay probe .*refused \(554 5\.7\.1 Relay access denied\)$/)
  await closed
  assert.deepEqual(
    commands.map((line) => line.slice(0, 4)),
    ['EHLO', 'MAIL', 'RCPT', 'RSET', 'QUIT'],
  )
  assert.equal(commands[1], 'MAIL FROM:<>')
  assert.match(commands[2] ?? '', /^RCPT TO:<postern-[0-9a-f]{12}@postern-probe\.invalid>$/)
})

test('a backend that relays for us: status 1 and a warning', async (t) => {
  const { address, commands } = await backend(t, { rcpt: '250 2.1.5 Ok' })
  const { status, lines } = await checked(t, withServers(address))
  assert.equal(status, 1)
  assertLine(lines, /^WARN {2}relay probe .*WARNING: the backend relays for this proxy: .*\(250 2\.1\.5 Ok\)/)
  assert.ok(!commands.includes('DATA'))
})

for (const [what, serve] of [
  ['hangs up', (socket: Socket) => socket.destroy()],
  ['greets with 554', (socket: Socket) => socket.end('554 5.3.2 No service\r\n')],
  ['speaks something else', (socket: Socket) => socket.end('SSH-2.0-OpenSSH\r\n')],
] as const) {
  test(`a backend that ${what}: status 69`, async (t) => {
    const address = await listen(t, (socket) => serve(socket))
    const { status, lines } = await checked(t, withServers(address))
    assert.equal(status, 69)
    assertLine(lines, new RegExp(`^FAIL {2}backend ${address}: cannot be reached`))
  })
}

test('one backend of two is away: negative, but not unavailable', async (t) => {
  const good = await backend(t)
  const bad = await listen(t, (socket) => socket.destroy())
  const { status, lines } = await checked(t, withServers(bad, good.address))
  assert.equal(status, 1)
  assertLine(lines, new RegExp(`^ok {4}backend ${good.address}`))
})

test('a backend that defers the foreign recipient proves nothing: a note', async (t) => {
  const { address } = await backend(t, { rcpt: '450 4.1.2 Domain not found' })
  const { status, lines } = await checked(t, withServers(address))
  assert.equal(status, 0)
  assertLine(lines, /^note {2}relay probe .*450 4\.1\.2 Domain not found/)
})

test('a backend that refuses the null sender is warned about', async (t) => {
  const { address, commands } = await backend(t, { mail: '550 5.1.0 No' })
  const { status, lines } = await checked(t, withServers(address))
  assert.equal(status, 0)
  assertLine(lines, /^WARN {2}relay probe .*refuses MAIL FROM:<> \(550 5\.1\.0 No\)/)
  assert.ok(!commands.some((line) => line.startsWith('RCPT')))
})

test('a backend that leaves in the middle of the probe: status 1', async (t) => {
  const { address } = await backend(t, { rcpt: 'not an answer' })
  const { status, lines } = await checked(t, withServers(address))
  assert.equal(status, 1)
  assertLine(lines, /^FAIL {2}relay probe/)
})

test('what a backend says cannot act on the terminal', async (t) => {
  const { address } = await backend(t, { greeting: '220 mail\x1b[2J\x07 ESMTP' })
  const { lines } = await checked(t, withServers(address))
  assert.doesNotMatch(lines.join(''), /[\x00-\x1f]/)
})

test('a backend that takes less than we announce is noted', async (t) => {
  const { address } = await backend(t)
  const { status, lines } = await checked(t, withServers(address))
  assert.equal(status, 0)
  assertLine(lines, /^note {2}backend .*limits\.message_size/)
})

test('a bad configuration: status 78, each problem with its place', async (t) => {
  const cwd = folder(t)
  writeFileSync(join(cwd, 'bad.yaml'), 'hostname: mx.example.org\nlimits:\n  mesage_size: 1\n  idle: soon\n')
  const { status, stdout, stderr } = await postern(t, cwd, ['check', '-c', 'bad.yaml'])
  assert.equal(status, 78)
  const lines = stdout.trimEnd().split('\n')
  assert.equal(lines.length, 2)
  assert.match(lines[0] ?? '', /^FAIL {2}configuration: bad\.yaml:3:3: limits\.mesage_size: .*message_size/)
  assert.match(lines[1] ?? '', /^FAIL {2}configuration: bad\.yaml:4:9: limits\.idle: /)
  assert.equal(stderr, '')
})

test('a file that is not there: status 78', async (t) => {
  const { status, stdout } = await postern(t, folder(t), ['check', '-c', 'none.yaml'])
  assert.equal(status, 78)
  assert.match(stdout, /^FAIL {2}configuration: none\.yaml: /)
})

test('without a file the defaults are tried, in the working directory', async (t) => {
  const { stdout } = await postern(t, folder(t), ['check'])
  assert.match(stdout, /^ok {4}configuration: no file/)
  assert.match(stdout, /^WARN {2}domains: empty/m)
})

for (const [what, text] of [
  ['a plugin that does not load', 'plugins: [./none.ts]\n'],
  ['a section for no filter', 'filters: {netwroks: {}}\n'],
  ['an option that the filter refuses', 'filters: {networks: {deny: [nonsense]}}\n'],
  ['a data_dir below a file', 'data_dir: postern.yaml\n'],
] as const) {
  test(`${what}: status 78`, async (t) => {
    const { status, lines } = await checked(t, text)
    assert.equal(status, 78)
    assert.match(lines.at(-1) ?? '', /^FAIL {2}configuration: /)
  })
}

test('broken scores: status 78 and their line', async (t) => {
  const rules = join(folder(t), 'rules')
  mkdirSync(rules)
  writeFileSync(join(rules, 'scores.yaml'), 'GOOD: 1\nBAD: many\n')
  const { status, lines } = await checked(t, `rules_dir: ${rules}\n`)
  assert.equal(status, 78)
  assertLine(lines, /^FAIL {2}configuration: .*scores\.yaml:2:\d+: BAD: /)
})

test('an address in use is a note, since the gateway may be running', async (t) => {
  const address = await listen(t, (socket) => socket.destroy())
  const { status, lines } = await checked(t, `listeners: [{name: mx, address: "${address}"}]\nadmin: {address: off}\n`)
  assert.equal(status, 0)
  assert.ok(lines.includes(`note  listener mx: ${address} is in use: is Postern running already?`))
})

test('an address that this machine does not have: status 1', async (t) => {
  const { status, lines } = await checked(t, 'listeners: [{name: mx, address: "192.0.2.1:2525"}]\n')
  assert.equal(status, 1)
  assertLine(lines, /^FAIL {2}listener mx: .*no such address/)
})

test('a disk without room beside the reserve: status 1', async (t) => {
  const { status, lines } = await checked(t, 'limits: {spool_reserve: 8000000GiB}\n')
  assert.equal(status, 1)
  assertLine(lines, /^FAIL {2}spool: .*452 4\.3\.1/)
})

test('a Maildir that cannot be made: status 1', async (t) => {
  const { status, lines } = await checked(t, 'maildir: {path: postern.yaml/mail}\n')
  assert.equal(status, 1)
  assertLine(lines, /^FAIL {2}maildir: /)
})

test('a Maildir that can: status 0', async (t) => {
  const { status, lines } = await checked(t, 'maildir: {path: mail}\n')
  assert.equal(status, 0)
  assertLine(lines, /^ok {4}maildir: .*mail takes files$/)
})

/** What is found in settings alone, but for the line about domains. */
function findingsOf(text: string) {
  const { config } = loadConfig({ text, env: {} })
  return settingFindings(config).filter(({ what }) => what !== 'domains')
}

for (const network of ['0.0.0.0/0', '::/0', '128.0.0.0/1', '2000::/3', '::ffff:0.0.0.0/96']) {
  test(`relay_networks with ${network} is an open relay`, () => {
    const found = findingsOf(`relay_networks: [10.0.0.0/8, "${network}"]\n`)
    assert.deepEqual(
      found.map(({ level, negative }) => [level, negative]),
      [['WARN', true]],
    )
    assert.match(found[0]?.detail ?? '', /open relay/)
  })
}

test('networks that somebody owns are no open relay', () => {
  const text = 'relay_networks: [10.0.0.0/8, 192.0.2.7, "fc00::/7", "2001:db8::/32", "::1", "::ffff:10.0.0.0/104"]\n'
  assert.deepEqual(findingsOf(text), [])
})

for (const [text, what] of [
  ['actions: {tag: 13}', 'actions'],
  ['limits: {errors_soft: 21}', 'limits'],
  ['listeners: [{name: a, address: "127.0.0.1:25"}, {name: b, address: "127.0.0.1:25"}]', 'listener b'],
] as const) {
  test(`${text} is warned about`, () => {
    const found = findingsOf(text)
    assert.deepEqual(
      found.map((one) => [one.level, one.what, one.negative]),
      [['WARN', what, undefined]],
    )
  })
}

test('equal thresholds and ports that the system chooses are fine', () => {
  const text =
    'actions: {tag: 12, reject: 12}\nlimits: {errors_soft: 20, errors: 20}\n' +
    'listeners: [{name: a, address: "127.0.0.1:0"}, {name: b, address: "127.0.0.1:0"}]\n'
  assert.deepEqual(findingsOf(text), [])
})
