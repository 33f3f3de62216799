// Reload without loss: new sessions get the new configuration, running ones keep theirs, a bad one changes nothing.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, type TestContext, test } from 'node:test'
import { connect as tlsConnect } from 'node:tls'
import { App } from '../src/app.ts'
import { loadConfig } from '../src/config/load.ts'
import { CertificateMaker } from './conformance/certificates.ts'
import { FakeClock, settle } from './support/fake-clock.ts'
import { FakeLog } from './support/fake-log.ts'
import { Talk } from './support/talk.ts'

async function gateway(t: TestContext, more = '') {
  const dir = mkdtempSync(join(tmpdir(), 'postern-reload-'))
  const read =
    (domain: string, rest = more) =>
    () =>
      loadConfig({
        text: `{hostname: mx.example.org, listeners: [{name: mx, address: "127.0.0.1:0"}], domains: [${domain}],
        data_dir: ${dir}, admin: {address: "off"}, limits: {idle: 30d}${rest}}`,
        env: {},
      })
  const clock = new FakeClock()
  const log = new FakeLog()
  const app = await App.create({ loaded: read('one.example')(), clock, log })
  const results: string[] = []
  app.events.on('config-reloaded', ({ result }) => results.push(result))
  const [listener] = await app.start()
  t.after(async () => {
    await app.stop()
    rmSync(dir, { recursive: true })
  })
  return { app, read, results, clock, log, dir, port: listener?.address.port ?? 0 }
}

async function recipient(talk: Talk, domain: string): Promise<string> {
  await talk.ask('MAIL FROM:<a@example.net>\r\n', '250')
  talk.send(`RCPT TO:<user@${domain}>\r\nRSET\r\n`)
  const answer = await talk.reply()
  await talk.expect('250')
  return answer?.slice(0, 3) ?? ''
}

suite('reload', () => {
  test('new sessions get the new configuration, running ones keep theirs', async (t) => {
    const { app, read, results, port } = await gateway(t)
    const before = await Talk.greeted(port)
    assert.equal(await app.reload(read('two.example')), true)
    const after = await Talk.greeted(port)
    assert.deepEqual([await recipient(before, 'one.example'), await recipient(before, 'two.example')], ['250', '550'])
    assert.deepEqual([await recipient(after, 'one.example'), await recipient(after, 'two.example')], ['550', '250'])
    assert.deepEqual(results, ['ok'])
    for (const talk of [before, after]) await talk.ask('QUIT\r\n', '221')
  })

  test('a configuration that is wrong, or moves a listener, is refused and changes nothing', async (t) => {
    const { app, read, results, port } = await gateway(t)
    assert.equal(await app.reload(read('two.example', ', limits: {idle: soon}')), false)
    assert.equal(await app.reload(read('two.example', ', plugins: [./there-is-none.ts]')), false)
    const moved = () => loadConfig({ text: 'listeners: [{name: mx, address: "127.0.0.1:1"}]', env: {} })
    assert.equal(await app.reload(moved), false)
    assert.deepEqual(results, ['refused', 'refused', 'refused'])
    const talk = await Talk.greeted(port)
    assert.equal(await recipient(talk, 'one.example'), '250')
    await talk.ask('QUIT\r\n', '221')
  })

  test('a renewed certificate is taken, one that cannot be used is not', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'postern-renew-'))
    t.after(() => rmSync(folder, { recursive: true }))
    const first = await new CertificateMaker(folder).get()
    const files = `{certificate: ${first.certificateFile}, key: ${first.keyFile}}`
    const listener = 'listeners: [{name: mx, address: "127.0.0.1:0", tls: implicit}]'
    const clock = new FakeClock()
    const log = new FakeLog()
    const text = `{${listener}, tls: ${files}, data_dir: ${folder}/data, admin: {address: "off"}}`
    const app = await App.create({ loaded: loadConfig({ text, env: {} }), clock, log })
    const [{ address } = { address: { port: 0 } }] = await app.start()
    t.after(async () => {
      const stopped = app.stop()
      await clock.advance(10_000)
      await stopped
    })
    const shown = async () => {
      const socket = tlsConnect({ port: address.port, host: '127.0.0.1', rejectUnauthorized: false })
      await new Promise((resolve) => socket.once('secureConnect', resolve))
      const { fingerprint256 } = socket.getPeerCertificate()
      socket.destroy()
      return fingerprint256
    }
    const old = await shown()
    writeFileSync(first.certificateFile, 'no certificate')
    await clock.advance(60_000)
    await untilLogged(log, /old certificate stays/)
    assert.equal(await shown(), old)
    await new CertificateMaker(folder).get()
    await clock.advance(60_000)
    await untilLogged(log, /new certificate taken/)
    assert.notEqual(await shown(), old)
  })
})

// The files are read by the system's threads: no number of turns is sure to be enough.
async function untilLogged(log: FakeLog, text: RegExp): Promise<void> {
  for (let i = 0; i < 1000 && !JSON.stringify(log).match(text); i++) await settle(1)
  assert.match(JSON.stringify(log), text)
}
