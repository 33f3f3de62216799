// A real Postfix behind the gateway, and in front of it: the recipe of the README as it stands there, and who the client is to Postfix.
// What a Postfix does that queues and tries again is in postfix-queue.test.ts.
import assert from 'node:assert/strict'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { stringify } from 'yaml'
import { postern } from '../commands/postern.ts'
import { freePort, type Gateway } from '../conformance/gateway.ts'
import { startGateway } from '../support/gateway.ts'
import { peer } from '../support/peers.ts'
import { mailboxSettings, Postfix, polled, skipWithoutPostfix } from '../support/postfix.ts'
import { readRecipe } from '../support/recipe.ts'
import { type CommandResult, runCommand } from '../support/run-command.ts'
import { Talk } from '../support/talk.ts'

const RECIPE = readRecipe()
const DOMAIN = RECIPE.domain
const USER = `user@${DOMAIN}`
const SENDER = 'sender@example.net'
const VERDICTS = fileURLToPath(new URL('../support/verdict-filter.ts', import.meta.url))
const SIZE_LIMIT = 100_000
// Exit statuses of swaks: how far it came.
const SWAKS = { ok: 0, rcpt: 24, dot: 26 } as const

let folder = ''
let postfix: Postfix
let ports: Record<'recipe' | 'trusting' | 'haproxy' | 'front', number>
/** The gateway of the recipe. */
let gateway: Gateway
/** One that stands behind a Postfix (smtpd_proxy_filter) and before the other. */
let inner: Gateway
let places = 0

const skip = skipWithoutPostfix('swaks')

before(async () => {
  if (skip !== false) return
  folder = await mkdtemp(join(tmpdir(), 'postern-postfix-'))
  await chmod(folder, 0o755)
  ports = { recipe: await freePort(), trusting: await freePort(), haproxy: await freePort(), front: await freePort() }
  gateway = await startGateway({ ...place(), config: RECIPE.config, backendPort: ports.recipe })
  inner = await startGateway({
    ...place(),
    backendPort: ports.recipe,
    listener: { xclient_from: ['127.0.0.0/8'] },
    config: {
      ...RECIPE.config,
      plugins: [VERDICTS],
      filters: { networks: { deny: ['127.0.0.6'] } },
      limits: { connections_per_address: 1 },
    },
  })
  const local = join(folder, 'postfix')
  postfix = await Postfix.start({
    folder: local,
    port: ports.recipe,
    delivers: true,
    services: [
      RECIPE.service(ports.recipe),
      `127.0.0.1:${ports.trusting} inet n - n - - smtpd`,
      `${RECIPE.service(ports.haproxy)}  -o smtpd_upstream_proxy_protocol=haproxy`,
      `127.0.0.1:${ports.front} inet n - n - - smtpd -o smtpd_proxy_filter=127.0.0.1:${inner.port}`,
    ],
    settings: {
      ...mailboxSettings(local, [USER]),
      myhostname: `mail.${DOMAIN}`,
      inet_protocols: 'all',
      message_size_limit: String(SIZE_LIMIT),
      smtpd_client_restrictions: 'check_client_access inline:{ 127.0.0.9=REJECT }',
    },
  })
})

after(async () => {
  await gateway?.stop()
  await inner?.stop()
  await postfix?.stop()
  if (folder !== '') await rm(folder, { recursive: true, force: true })
})

function place(): { folder: string } {
  places++
  return { folder: join(folder, `gateway-${places}`) }
}

interface Mail {
  /** The client's address, of loopback. */
  readonly client?: string
  readonly helo?: string
  readonly to?: string
  readonly argv?: readonly string[]
}

/** The subject of a message is its name in the mailbox. */
function swaks(port: number, subject: string, mail: Mail = {}): Promise<CommandResult> {
  const { client = '127.0.0.1', helo = 'client.example.net', to = USER, argv = [] } = mail
  const who = ['--local-interface', client, '--helo', helo, '--from', SENDER, '--to', to]
  return runCommand(peer('swaks'), ['--server', `127.0.0.1:${port}`, ...who, '-h-Subject', subject, ...argv])
}

/** Sends it and waits for it. */
async function deliver(port: number, subject: string, mail: Mail = {}): Promise<string> {
  const { status, stdout } = await swaks(port, subject, mail)
  assert.equal(status, SWAKS.ok, stdout)
  const [message, ...more] = await postfix.mailbox('user', new RegExp(`^Subject: ${subject}$`, 'm'))
  assert.ok(message)
  assert.deepEqual(more, [])
  return message
}

/** Its lines follow the replies. */
async function innerLogged(pattern: RegExp): Promise<void> {
  await polled(`${pattern} in the log of the gateway`, async () => pattern.test(inner.log) || undefined)
}

async function refused(port: number, mail: Mail, status: number, reply: RegExp): Promise<void> {
  const result = await swaks(port, 'refused', mail)
  assert.equal(result.status, status, result.stdout)
  assert.match(result.stdout, reply)
}

suite("the README's recipe", { skip }, () => {
  test('postern check finds nothing wrong', async (t) => {
    const { status, stdout } = await postern(t, folder, ['check', '-c', join(folder, 'gateway-1', 'postern.yaml')])
    assert.match(
      stdout,
      /^ok {4}relay probe .*: a foreign recipient is refused \(554 5\.7\.1 .*Relay access denied\)$/m,
    )
    assert.equal(status, 0, stdout)
  })

  test('postern check warns of a Postfix that trusts it', async (t) => {
    const file = join(folder, 'trusting.yaml')
    const places = { data_dir: folder, listeners: [{ name: 'mx', address: '127.0.0.1:0' }], admin: { address: 'off' } }
    const backend = { servers: [`127.0.0.1:${ports.trusting}`] }
    await writeFile(file, stringify({ ...RECIPE.config, ...places, backend }))
    const { status, stdout } = await postern(t, folder, ['check', '-c', file])
    assert.match(stdout, /^WARN {2}relay probe .*: WARNING: the backend relays for this proxy: /m)
    assert.equal(status, 1, stdout)
  })

  test('mail is delivered, below the trace of both', async () => {
    const message = await deliver(gateway.port, 'ham', { client: '127.0.0.7', helo: 'seven.example.net' })
    assert.match(
      message,
      new RegExp(
        '^Received: from seven\\.example\\.net \\(unknown \\[127\\.0\\.0\\.7\\]\\)\n' +
          `\tby mail\\.${DOMAIN} \\(Postfix\\) with ESMTP id .*\n(?:\t.*\n)*` +
          'Received: from seven\\.example\\.net \\(\\[127\\.0\\.0\\.7\\]\\)\n' +
          `\tby mx1\\.${DOMAIN} \\(Postern\\) with ESMTP id`,
        'm',
      ),
    )
    assert.match(message, /^This is a test mailing$/m)
  })

  test("an unknown recipient hears Postfix's own refusal", async () => {
    const to = `nobody@${DOMAIN}`
    await refused(
      gateway.port,
      { to },
      SWAKS.rcpt,
      /^<\*\* 550 5\.1\.1 <nobody@.*>: .*: User unknown in virtual mailbox/m,
    )
  })

  test('who wants to relay is refused by the gateway', async () => {
    await refused(gateway.port, { to: 'user@example.com' }, SWAKS.rcpt, /^<\*\* 550 5\.7\.1 Relaying denied/m)
    // The probe of `postern check` has gone to Postfix, this has not.
    assert.doesNotMatch(await postfix.log(), /user@example\.com/)
  })

  test("the announced SIZE is not over Postfix's limit, and holds at MAIL", async () => {
    const talk = await Talk.open(gateway.port)
    const offer = await talk.ask('EHLO client.example.net\r\n', '250')
    const size = Number(/^250[- ]SIZE (\d+)\r$/m.exec(offer)?.[1])
    assert.ok(size > SIZE_LIMIT - 20_000 && size <= SIZE_LIMIT, offer)
    assert.match(await talk.ask(`MAIL FROM:<${SENDER}> SIZE=${size + 1}\r\n`, '552'), /^552 5\.3\.4 /)
    await talk.ask(`MAIL FROM:<${SENDER}> SIZE=${size}\r\n`, '250')
    talk.destroy()
  })
})

suite('XCLIENT to Postfix', { skip }, () => {
  test('two clients on one pooled connection are told apart', async () => {
    await deliver(gateway.port, 'from-seven', { client: '127.0.0.7', helo: 'seven.example.net' })
    const before = (await postfix.log()).length
    const message = await deliver(gateway.port, 'from-eight', { client: '127.0.0.8', helo: 'eight.example.net' })
    const log = (await postfix.log()).slice(before)
    assert.match(message, /^Received: from eight\.example\.net \(unknown \[127\.0\.0\.8\]\)$/m)
    assert.match(log, /postfix\/smtpd\[\d+\]: \w+: client=unknown\[127\.0\.0\.8\]$/m)
    assert.doesNotMatch(log, /: connect from/, 'the connection was there')
  })

  test('restrictions by address act on the client, and only where Postfix knows it', async () => {
    await refused(
      gateway.port,
      { client: '127.0.0.9' },
      SWAKS.rcpt,
      /^<\*\* 554 5\.7\.1 <unknown\[127\.0\.0\.9\]>: Client host rejected/m,
    )
    await deliver(gateway.port, 'after-a-refusal', { client: '127.0.0.7' })
    await withGateway({ client_address: 'none' }, ports.recipe, async (silent) => {
      const message = await deliver(silent.port, 'untold', { client: '127.0.0.9' })
      assert.match(message, /^Received: from mx1\.\S+ \(unknown \[127\.0\.0\.1\]\)$/m)
    })
  })

  test('an IPv6 client, named by XCLIENT to us', async () => {
    const talk = await Talk.greeted(inner.port)
    await talk.ask('XCLIENT ADDR=IPV6:2001:db8::7 HELO=six.example.net\r\n', '220')
    await talk.ask('EHLO six.example.net\r\n', '250')
    await talk.ask(`MAIL FROM:<${SENDER}>\r\n`, '250')
    await talk.ask(`RCPT TO:<${USER}>\r\n`, '250')
    await talk.ask('DATA\r\n', '354')
    await talk.ask('Subject: six\r\n\r\n.\r\n', '250')
    talk.destroy()
    const [message] = await postfix.mailbox('user', /^Subject: six$/m)
    assert.match(message ?? '', /^Received: from six\.example\.net \(unknown \[IPv6:2001:db8::7\]\)$/m)
  })
})

/** A gateway of the recipe with other settings of its backend. */
async function withGateway(backend: object, port: number, work: (gateway: Gateway) => Promise<void>): Promise<void> {
  const config = { ...RECIPE.config, backend: { servers: [`127.0.0.1:${port}`], ...backend } }
  const started = await startGateway({ ...place(), config, backendPort: port })
  try {
    await work(started)
  } finally {
    await started.stop()
  }
}

suite('the PROXY protocol to Postfix', { skip }, () => {
  for (const version of ['proxy-v1', 'proxy-v2']) {
    test(version, async (t) => {
      await withGateway({ client_address: version }, ports.haproxy, async (proxying) => {
        const message = await deliver(proxying.port, version, { client: '127.0.0.7' })
        assert.match(message, /^Received: from mx1\.\S+ \(unknown \[127\.0\.0\.7\]\)$/m)
        const id = /\(Postfix\) with ESMTP id (\w+)/.exec(message)?.[1]
        await postfix.logged(new RegExp(`: ${id}: client=unknown\\[127\\.0\\.0\\.7\\]$`))
        await refused(
          proxying.port,
          { client: '127.0.0.9' },
          SWAKS.rcpt,
          /^<\*\* 554 5\.7\.1 <unknown\[127\.0\.0\.9\]>/m,
        )
        const { status, stdout } = await postern(t, folder, [
          'check',
          '-c',
          join(folder, `gateway-${places}`, 'postern.yaml'),
        ])
        assert.equal(status, 0, stdout)
      })
    })
  }
})

suite("behind Postfix's smtpd_proxy_filter", { skip }, () => {
  const VERDICT = (verdict: string) => ({ client: '127.0.0.7', argv: ['--add-header', `X-Test-Verdict: ${verdict}`] })

  test('the client is the one of the Postfix in front, all the way', async () => {
    const message = await deliver(ports.front, 'front', { client: '127.0.0.7', helo: 'seven.example.net' })
    const received = [...message.matchAll(/^Received: from (\S+) \((?:unknown )?\[(\S+)\]\)\n\tby \S+ \((\w+)\)/gm)]
    assert.deepEqual(
      received.map(([, ...found]) => found),
      [
        ['seven.example.net', '127.0.0.7', 'Postfix'],
        ['seven.example.net', '127.0.0.7', 'Postern'],
        ['seven.example.net', '127.0.0.7', 'Postfix'],
      ],
    )
    await innerLogged(/"client":"127\.0\.0\.7","helo":"seven\.example\.net",.*"outcome":"delivered"/)
  })

  test('the cap on connections of one address is not for the Postfix in front, whose address is that of everybody', async () => {
    const [one, two] = [await Talk.greeted(inner.port), await Talk.greeted(inner.port)]
    one.destroy()
    two.destroy()
  })

  test('refusals at the recipient reach it: of the Postfix behind, and of a filter by address', async () => {
    await refused(ports.front, { client: '127.0.0.9' }, SWAKS.rcpt, /^<\*\* 554 5\.7\.1 <unknown\[127\.0\.0\.9\]>/m)
    await refused(ports.front, { client: '127.0.0.6' }, SWAKS.rcpt, /^<\*\* 55\d 5\.7\.1 /m)
    await innerLogged(/"client":"127\.0\.0\.6",.*"symbols":\["NETWORK_DENY"\]/)
  })

  test('refusals at end of data reach it', async () => {
    await refused(ports.front, VERDICT('reject'), SWAKS.dot, /^<\*\* 550 5\.7\.1 /m)
    await refused(ports.front, VERDICT('tempfail'), SWAKS.dot, /^<\*\* 451 4\.7\.1 /m)
  })
})
