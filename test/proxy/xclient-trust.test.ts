// The trust that XCLIENT asks for is in who talks to us: behind a load balancer that is whom its PROXY header names, not the balancer.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { App } from '../../src/app.ts'
import { loadConfig } from '../../src/config/load.ts'
import { Talk } from '../support/talk.ts'

test('a client behind a trusted balancer is not trusted itself', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'postern-trust-'))
  const text = `{hostname: mx.example.org, domains: [example.org], data_dir: ${dir}, admin: {address: "off"}, log: {level: error},
    relay_networks: [192.0.2.1], listeners: [{name: mx, address: "127.0.0.1:0",
    proxy_protocol_from: [127.0.0.0/8], xclient_from: [127.0.0.0/8, 198.51.100.7]}]}`
  const app = await App.create({ loaded: loadConfig({ text, env: {} }) })
  const [listener] = await app.start()
  t.after(async () => {
    await app.stop()
    rmSync(dir, { recursive: true })
  })
  const greeted = async (client: string) => {
    const talk = Talk.over(connect({ port: listener?.address.port ?? 0, host: '127.0.0.1' }))
    talk.send(`PROXY TCP4 ${client} 192.0.2.25 4000 25\r\n`)
    await talk.expect('220')
    return { talk, hello: await talk.ask('EHLO client.example.net\r\n', '250') }
  }
  const stranger = await greeted('203.0.113.9')
  assert.doesNotMatch(stranger.hello, /XCLIENT|XFORWARD/)
  assert.match(await stranger.talk.ask('XCLIENT ADDR=192.0.2.1\r\n', '550'), /^550 5\.7\.0 /)
  await stranger.talk.ask('MAIL FROM:<a@example.net>\r\n', '250')
  assert.match(await stranger.talk.ask('RCPT TO:<victim@example.com>\r\n', '550'), /^550 5\.7\.1 /)
  await stranger.talk.ask('QUIT\r\n', '221')
  // Whom the header names may be listed.
  const listed = await greeted('198.51.100.7')
  assert.match(listed.hello, /XCLIENT /)
  await listed.talk.ask('QUIT\r\n', '221')
})
