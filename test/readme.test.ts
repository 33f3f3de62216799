// What the README shows is what is there: the example filter is the tested file, and it does what it says.
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { App } from '../src/app.ts'
import { loadConfig } from '../src/config/load.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const EXAMPLE = join(ROOT, 'deploy/example-filter.ts')

test('the README shows the example filter as it is', () => {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8')
  const shown = /<!-- example-filter -->\n```ts\n([\s\S]*?)```\n<!-- \/example-filter -->/.exec(readme)?.[1]
  assert.equal(shown, readFileSync(EXAMPLE, 'utf8'))
})

test('the example configuration is valid', () => {
  const { config } = loadConfig({ path: join(ROOT, 'deploy/postern.example.yaml'), env: {} })
  assert.deepEqual(config.domains, ['example.org'])
})

async function startExample(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), 'postern-readme-'))
  writeFileSync(join(dir, 'scores.yaml'), 'DISPLAY_NAME_SPOOF: 6\n')
  const text = `
hostname: mx1.example.org
listeners: [{name: mx, address: "127.0.0.1:0"}]
domains: [example.org]
data_dir: ${dir}/data
rules_dir: ${dir}
plugins: [${EXAMPLE}]
filters: {display_name: {domains: [example.org]}}
admin: {address: "off"}
log: {level: error}
`
  const app = await App.create({ loaded: loadConfig({ text, env: {} }) })
  const [listener] = await app.start()
  t.after(async () => {
    await app.stop()
    rmSync(dir, { recursive: true })
  })
  return { port: listener?.address.port ?? 0, maildir: join(dir, 'data/mail/new') }
}

// One message, one step a reply.
async function send(port: number, message: string): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  const steps = [
    'EHLO c.example.net',
    'MAIL FROM:<x@example.net>',
    'RCPT TO:<user@example.org>',
    'DATA',
    `${message}\r\n.`,
    'QUIT',
  ]
  let seen = ''
  for await (const chunk of socket) {
    seen += chunk
    if (/(^|\n)\d{3} [^\n]*\n$/.test(seen)) {
      const step = steps.shift()
      if (step !== undefined) socket.write(`${step}\r\n`)
    }
  }
  return seen
}

test('the example filter marks a borrowed display name, and nothing else', async (t) => {
  const { port, maildir } = await startExample(t)
  const seen = await send(port, 'From: "boss@example.org" <x@example.net>\r\nSubject: urgent\r\n\r\npay')
  assert.match(seen, /250 2\.0\.0 /)
  await send(port, 'From: "Boss" <boss@example.org>\r\nSubject: lunch\r\n\r\nnoon')
  const stored = readdirSync(maildir).map((name) => readFileSync(join(maildir, name), 'latin1'))
  const spoofed = stored.find((text) => text.includes('urgent'))
  const honest = stored.find((text) => text.includes('lunch'))
  assert.match(spoofed ?? '', /^X-Spam-Flag: YES\r$/m)
  assert.match(spoofed ?? '', /tests=DISPLAY_NAME_SPOOF=6\.0\r$/m)
  assert.match(honest ?? '', /^X-Spam-Flag: NO\r$/m)
})
