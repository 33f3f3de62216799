// Clients that others wrote, through a real gateway process, to a server that others wrote (Postfix's smtp-sink) and to the Maildir: what they
// send arrives as it was, as often as they were told, and what is refused they see as a refusal.
import assert from 'node:assert/strict'
import { chmod, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import type { Gateway } from '../conformance/gateway.ts'
import { belowTrace } from '../support/delivered.ts'
import { DOMAIN, readMaildir, spoolOf, startGateway } from '../support/gateway.ts'
import { peer, skipWithout } from '../support/peers.ts'
import { type CommandResult, runCommand } from '../support/run-command.ts'
import { type SinkMessage, SmtpSink } from '../support/smtp-sink.ts'

const USER = `user@${DOMAIN}`
const SENDER = 'sender@example.net'
const MIB = 1024 * 1024
// Exit statuses of swaks: how far it came.
const SWAKS = { ok: 0, mail: 23, rcpt: 24, dot: 26 } as const

let folder = ''
let captures = 0

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'postern-clients-'))
  // smtp-sink runs as another user.
  await chmod(folder, 0o755)
})
after(() => rm(folder, { recursive: true, force: true }))

interface Place {
  readonly gateway: Gateway
  readonly sink: SmtpSink
}

/** A gateway before a fresh sink. */
async function withSink(work: (place: Place) => Promise<void>, config: Record<string, unknown> = {}): Promise<void> {
  captures++
  const sink = await SmtpSink.start({ capture: join(folder, `captured-${captures}`) })
  try {
    const gateway = await startGateway({ folder: join(folder, `sink-${captures}`), backendPort: sink.port, config })
    try {
      await work({ gateway, sink })
    } finally {
      await gateway.stop()
    }
  } finally {
    await sink.stop()
  }
}

async function withMaildir(work: (gateway: Gateway, place: string) => Promise<void>): Promise<void> {
  captures++
  const place = join(folder, `maildir-${captures}`)
  const gateway = await startGateway({ folder: place })
  try {
    await work(gateway, place)
  } finally {
    await gateway.stop()
  }
}

function swaks(gateway: Gateway, ...argv: readonly string[]): Promise<CommandResult> {
  const where = ['--server', `127.0.0.1:${gateway.port}`, '--helo', 'client.example.net', '--from', SENDER]
  return runCommand(peer('swaks'), [...where, ...argv])
}

/** What was delivered, without the fields that the gateway puts on top. */
function withoutTrace(content: string): string {
  const own = belowTrace(content)
  assert.ok(own !== undefined, `our fields are on top: ${content.slice(0, 300)}`)
  assert.match(content, /^X-Spam-Flag: NO\r?$/m)
  return own
}

async function onlyMessage(sink: SmtpSink): Promise<SinkMessage> {
  const [message, ...more] = await sink.messages(1)
  assert.ok(message)
  assert.deepEqual(more, [])
  return message
}

const MESSAGE = `From: <${SENDER}>\nTo: <${USER}>\nSubject: dots\n\n.\n..\n.leading\nlast line\n`

suite('swaks', { skip: skipWithout('swaks', 'smtp-sink') }, () => {
  const dataFile = async (text: string | Buffer): Promise<string> => {
    const file = join(folder, `data-${Math.random().toString(36).slice(2)}`)
    await writeFile(file, text)
    return `@${file}`
  }

  for (const how of ['line by line', 'pipelining']) {
    test(`${how}: envelope and content arrive, dot lines included`, async () => {
      await withSink(async ({ gateway, sink }) => {
        const argv = ['--to', `${USER},postmaster@${DOMAIN}`, '--data', await dataFile(MESSAGE)]
        const { status, stdout } = await swaks(gateway, ...argv, ...(how === 'pipelining' ? ['--pipeline'] : []))
        assert.equal(status, SWAKS.ok, stdout)
        if (how === 'pipelining') assert.match(stdout, /MAIL FROM.*\n.*RCPT TO.*\n.*RCPT TO/, 'it did pipeline')
        const message = await onlyMessage(sink)
        assert.deepEqual([message.from, message.recipients], [SENDER, [USER, `postmaster@${DOMAIN}`]])
        assert.equal(withoutTrace(message.content).trimEnd(), MESSAGE.trimEnd())
      })
    })
  }

  test('a refused recipient is its exit status, beside a good one it is left out', async () => {
    await withSink(async ({ gateway, sink }) => {
      const alone = await swaks(gateway, '--to', 'user@example.org')
      assert.equal(alone.status, SWAKS.rcpt)
      assert.match(alone.stdout, /^<\*\* 550 5\.7\.1 Relaying denied/m)
      const both = await swaks(gateway, '--pipeline', '--to', `user@example.org,${USER}`)
      assert.equal(both.status, SWAKS.ok, both.stdout)
      assert.deepEqual((await onlyMessage(sink)).recipients, [USER])
    })
  })

  test('a message over the limit is refused at its end and does not arrive', async () => {
    const config = { limits: { message_size: '100KiB' } }
    await withSink(async ({ gateway, sink }) => {
      const large = await dataFile(`Subject: large\n\n${`${'x'.repeat(70)}\n`.repeat(3000)}`)
      const { status, stdout } = await swaks(gateway, '--to', USER, '--data', large)
      assert.equal(status, SWAKS.dot)
      assert.match(stdout, /^<\*\* 552 5\.3\.4 /m)
      const small = await swaks(gateway, '--to', USER, '--data', await dataFile('Subject: small\n\nx\n'))
      assert.equal(small.status, SWAKS.ok)
      assert.match((await onlyMessage(sink)).content, /^Subject: small$/m)
    }, config)
  })

  test('what the backend refuses, the client sees refused', async () => {
    const sink = await SmtpSink.start({ refuse: 'RCPT' })
    try {
      const gateway = await startGateway({ folder: join(folder, 'refusing'), backendPort: sink.port })
      const { status, stdout } = await swaks(gateway, '--to', USER)
      await gateway.stop()
      assert.equal(status, SWAKS.rcpt)
      assert.match(stdout, /^<\*\* 500 5\.3\.0 Error: command failed/m)
    } finally {
      await sink.stop()
    }
  })

  test('to the Maildir: octets above 127 and CRLF as sent', async () => {
    await withMaildir(async (gateway, place) => {
      const data = Buffer.from('Subject: 8bit\n\nGr\xfc\xdfe \xff\n', 'latin1')
      const { status, stdout } = await swaks(gateway, '--to', USER, '--data', await dataFile(data))
      assert.equal(status, SWAKS.ok, stdout)
      const [message, ...more] = await readMaildir(place)
      assert.deepEqual(more, [])
      const text = message?.toString('latin1') ?? ''
      assert.match(text, new RegExp(`^Return-Path: <${SENDER}>\r\nDelivered-To: ${USER}\r\n`))
      const content = withoutTrace(text.slice(text.indexOf('Received:')))
      assert.equal(content.trimEnd(), data.toString('latin1').trimEnd().replaceAll('\n', '\r\n'))
    })
  })
})

// Reads the port from its arguments and the message from standard input; prints what the server answered to a refusal.
const PYTHON = `
import smtplib, sys
port, sender, recipient, options = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4].split()
server = smtplib.SMTP('127.0.0.1', port, local_hostname='client.example.net')
try:
    print(server.sendmail(sender, [recipient], sys.stdin.buffer.read(), mail_options=options))
except smtplib.SMTPRecipientsRefused as refused:
    print(ascii(refused.recipients))
    sys.exit(3)
finally:
    server.quit()
`

suite("Python's smtplib", { skip: skipWithout('python3', 'smtp-sink') }, () => {
  interface Mail {
    readonly recipient?: string
    readonly options?: string
    readonly message: Buffer
  }

  const send = (gateway: Gateway, { recipient = USER, options = '', message }: Mail): Promise<CommandResult> => {
    const argv = ['-c', PYTHON, String(gateway.port), SENDER, recipient, options]
    return runCommand(peer('python3'), argv, { input: message, env: { ...process.env, PYTHONUTF8: '1' } })
  }

  test('8BITMIME: every octet from 1 to 255 but CR and LF arrives', async () => {
    await withSink(async ({ gateway, sink }) => {
      const all = Buffer.from(
        Array.from({ length: 255 }, (_, i) => i + 1).filter((octet) => octet !== 10 && octet !== 13),
      )
      const message = Buffer.concat([Buffer.from('Subject: octets\r\n\r\n'), all, Buffer.from('\r\n')])
      const { status, stderr } = await send(gateway, { message, options: 'BODY=8BITMIME' })
      assert.equal(status, 0, stderr)
      const { content } = await onlyMessage(sink)
      assert.equal(withoutTrace(content).trimEnd(), message.toString('latin1').replaceAll('\r\n', '\n').trimEnd())
    })
  })

  test('SMTPUTF8: an address and a header in UTF-8 arrive in the Maildir', async () => {
    await withMaildir(async (gateway, place) => {
      const message = Buffer.from('Subject: Gr\u00fc\u00dfe \u{1f4e8}\r\n\r\n\u4f60\u597d\r\n')
      const mail = { message, recipient: `j\u00f6rg@${DOMAIN}`, options: 'SMTPUTF8 BODY=8BITMIME' }
      const { status, stderr } = await send(gateway, mail)
      assert.equal(status, 0, stderr)
      const [received] = await readMaildir(place)
      const text = received?.toString('utf8') ?? ''
      assert.match(text, new RegExp(`^Delivered-To: j\u00f6rg@${DOMAIN}\r$`, 'm'))
      assert.match(text, /with UTF8SMTP id /)
      assert.ok(text.endsWith(message.toString('utf8')))
    })
  })

  test('a refusal arrives as an exception with the code', async () => {
    await withSink(async ({ gateway }) => {
      const { status, stdout } = await send(gateway, { message: Buffer.from('x\r\n'), recipient: 'user@example.org' })
      assert.equal(status, 3)
      assert.match(stdout, /\(550, b'5\.7\.1 Relaying denied/)
    })
  })

  test('a message of 5 MB, too large for memory, arrives in sink and Maildir; no spool file stays', async () => {
    const line = Buffer.from(`${'0123456789'.repeat(7)}\r\n`)
    const head = Buffer.from('Subject: large\r\n\r\n')
    const message = Buffer.concat([head, ...Array.from({ length: Math.ceil((5 * MIB) / line.length) }, () => line)])
    await withSink(async ({ gateway, sink }) => {
      const { status, stderr } = await send(gateway, { message })
      assert.equal(status, 0, stderr)
      const content = withoutTrace((await onlyMessage(sink)).content)
      assert.ok(content.trimEnd() === message.toString('latin1').replaceAll('\r\n', '\n').trimEnd())
    })
    await withMaildir(async (gateway, place) => {
      const { status, stderr } = await send(gateway, { message })
      assert.equal(status, 0, stderr)
      const [received] = await readMaildir(place)
      assert.ok(received?.subarray(-message.length).equals(message))
      assert.deepEqual(await readdir(spoolOf(place)), [])
    })
  })
})

suite("Postfix's smtp-source", { skip: skipWithout('smtp-source', 'smtp-sink') }, () => {
  const COUNT = 120
  const source = (gateway: Gateway, ...argv: readonly string[]): Promise<CommandResult> => {
    const what = ['-m', String(COUNT), '-l', '4000', '-f', SENDER, '-t', USER, '-M', 'client.example.net', '-N']
    return runCommand(peer('smtp-source'), [...what, ...argv, `127.0.0.1:${gateway.port}`])
  }

  for (const [how, argv] of [
    ['one message a connection', ['-s', '10']],
    ['many messages on each connection', ['-s', '5', '-d']],
    ['three recipients each', ['-s', '5', '-r', '3']],
  ] as const) {
    test(`${how}: all ${COUNT} arrive once`, async () => {
      await withSink(async ({ gateway, sink }) => {
        const { status, stderr } = await source(gateway, ...argv)
        assert.equal(status, 0, stderr)
        const messages = await sink.messages(COUNT)
        assert.equal(messages.length, COUNT)
        assert.equal(new Set(messages.map(({ recipients }) => recipients.join())).size, COUNT)
        const recipients = how.startsWith('three') ? 3 : 1
        assert.ok(messages.every((message) => message.recipients.length === recipients))
      })
    })
  }

  test(`to the Maildir: all ${COUNT} are there`, async () => {
    await withMaildir(async (gateway, place) => {
      const { status, stderr } = await source(gateway, '-s', '10')
      assert.equal(status, 0, stderr)
      const recipients = (await readMaildir(place)).map(
        (m) => /^Delivered-To: (.*)\r$/m.exec(m.toString('latin1'))?.[1],
      )
      assert.equal(recipients.length, COUNT)
      assert.equal(new Set(recipients).size, COUNT)
    })
  })

  test('it stops at a refusal', async () => {
    await withSink(async ({ gateway, sink }) => {
      const { status, stderr } = await source(gateway, '-t', 'user@example.org')
      assert.notEqual(status, 0)
      assert.match(stderr, /550 5\.7\.1 Relaying denied/)
      assert.deepEqual(await sink.messages(0), [])
    })
  })
})
