// The tools of the suite on their own: scripted backend, client, generated messages, case file. A tool that is wrong makes every case that
// uses it a lie.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { HarnessEvents } from './backend-record.ts'
import { parseCaseFile, type Variant } from './case-file.ts'
import { CertificateMaker } from './certificates.ts'
import { isExactly, runChecks } from './checks.ts'
import { Connection } from './client.ts'
import { DotReader } from './dot-reader.ts'
import { FakeBackend } from './fake-backend.ts'
import { type BackendRule, backendRules } from './format.ts'
import { dkimVerifies, dotStuffed, generate } from './generate.ts'
import { ReplyChecker } from './invariants.ts'
import { neededFeatures } from './waits.ts'

let folder = ''
let certificates: CertificateMaker
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'postern-harness-'))
  certificates = new CertificateMaker(folder)
})
after(() => rm(folder, { recursive: true, force: true }))

interface Stage {
  readonly backend: FakeBackend
  readonly events: HarnessEvents
  readonly client: Connection
  /** Sends lines and gives the replies, `closed` for a connection that ended. */
  talk(...lines: string[]): Promise<string[]>
}

/** The client of the suite talks straight to its backend: each proves the other. */
async function stage(rules: readonly unknown[], use: (stage: Stage) => Promise<void>, auth = false): Promise<void> {
  const events = new HarnessEvents()
  const parsed: BackendRule[] = backendRules.parse(rules)
  const backend = await FakeBackend.listen({ rules: parsed, auth, events, certificate: () => certificates.get() })
  const checker = new ReplyChecker({
    backendPort: 0,
    gatewayVersion: 'none',
    scriptedReplies: [],
    acceptedByBackend: () => backend.record.acceptedDots,
    localDisposition: false,
  })
  const watch = { checker, violation: () => {}, note: () => {} }
  const client = await Connection.open({ port: backend.port, name: 'c', proxyHeader: false, watch })
  const next = async (): Promise<string> => {
    const reply = await client.nextReply(3000)
    return typeof reply === 'string' ? reply : reply.text
  }
  const talk = async (...lines: string[]): Promise<string[]> => {
    const replies: string[] = []
    for (const line of lines) {
      await client.write(Buffer.from(line.endsWith('\n') ? line : `${line}\r\n`), 3000)
      replies.push(await next())
    }
    return replies
  }
  try {
    assert.match(await next(), /^220|^4|closed/)
    await use({ backend, events, client, talk })
  } finally {
    client.destroy()
    await backend.close()
  }
}

const ENVELOPE = ['EHLO c', 'MAIL FROM:<a@example.net>', 'RCPT TO:<b@example.com>', 'DATA']

test('the backend takes a message, removes dots and remembers the envelope', () =>
  stage([], async ({ backend, talk }) => {
    const replies = await talk(...ENVELOPE, 'Subject: s\r\n\r\n..\r\nx\r\n.\r\n', 'QUIT')
    assert.deepEqual(replies.slice(1), [
      '250 2.1.0 ok',
      '250 2.1.5 ok',
      '354 go ahead',
      '250 2.0.0 queued',
      '221 2.0.0 bye',
    ])
    const [message] = backend.record.messages
    assert.equal(message?.content.toString(), 'Subject: s\r\n\r\n.\r\nx\r\n')
    assert.deepEqual(message?.recipients, ['b@example.com'])
    assert.equal(backend.record.transactions.length, 1)
    assert.equal(backend.record.aborted, 0)
    assert.deepEqual(backend.record.violations, [])
  }))

test('RSET, and a close before the reply to the dot, are aborts', () =>
  stage([{ at: 'EOD', do: 'drop' }], async ({ backend, events, talk }) => {
    await talk(...ENVELOPE.slice(0, 2), 'RSET')
    assert.equal(backend.record.aborted, 1)
    assert.deepEqual(await talk(...ENVELOPE.slice(1), 'x\r\n.\r\n'), [
      '250 2.1.0 ok',
      '250 2.1.5 ok',
      '354 go ahead',
      'closed',
    ])
    assert.equal(await events.wait('backend_closed', 3000), true)
    assert.equal(backend.record.aborted, 2)
    assert.equal(backend.record.messages.length, 0)
    assert.equal(backend.record.acceptedDots, 0)
  }))

test('rules: the nth occurrence first, then the general one', () =>
  stage(
    [
      { at: 'RCPT', do: 'reply', reply: '450 4.2.1 later' },
      { at: 'RCPT', nth: 2, do: 'reply', reply: '550 5.1.1 never' },
    ],
    async ({ talk }) => {
      const rcpt = 'RCPT TO:<b@example.com>'
      const replies = await talk('EHLO c', 'MAIL FROM:<>', rcpt, rcpt, rcpt, 'DATA')
      assert.deepEqual(replies.slice(2), [
        '450 4.2.1 later',
        '550 5.1.1 never',
        '450 4.2.1 later',
        '503 5.5.1 no recipients',
      ])
    },
  ))

test('rules: delay, repeat, close after the reply, an early word in the body', async () => {
  await stage([{ at: 'RSET', do: 'delay', ms: 30 }], async ({ talk }) => {
    assert.deepEqual(await talk('RSET'), ['250 2.0.0 ok'])
  })
  await stage([{ at: 'RSET', do: 'reply_repeat', reply: '250 2.0.0 again', times: 3 }], async ({ client, talk }) => {
    await talk('RSET')
    assert.equal(client.unread, '250 2.0.0 again\n250 2.0.0 again\n')
  })
  await stage([{ at: 'MAIL', do: 'close_after_reply', reply: '421 4.3.2 bye' }], async ({ client, talk }) => {
    assert.deepEqual(await talk('EHLO c', 'MAIL FROM:<>').then((all) => all[1]), '421 4.3.2 bye')
    assert.equal(await client.waitForClose(3000), true)
  })
  const early = { at: 'BODY', do: 'reply', reply: '552 5.3.4 too big', after_bytes: 5 }
  await stage([early], async ({ backend, client, talk }) => {
    assert.equal((await talk(...ENVELOPE, '0123456789\r\n')).at(-1), '552 5.3.4 too big')
    assert.deepEqual(await talk('.\r\nRSET'), ['250 2.0.0 ok'], 'no second reply for the dot')
    assert.equal(client.unread, '')
    assert.equal(backend.record.messages.length, 0)
  })
})

test('what the backend did not announce it refuses, and what no proxy may send it reports', () =>
  stage([{ ehlo_lines: ['SIZE 1000'] }], async ({ backend, talk }) => {
    const [ehlo, ...others] = await talk(
      'EHLO c',
      'MAIL FROM:<a@b> BODY=8BITMIME',
      'MAIL FROM:<a@b> SIZE=1001',
      'XCLIENT ADDR=192.0.2.1',
      'FROB',
      'MAIL FROM: <a@b>',
    )
    assert.equal(ehlo, '250-backend.example.com\n250 SIZE 1000')
    assert.deepEqual(
      others.map((reply) => reply.slice(0, 9)),
      ['555 5.5.4', '552 5.3.4', '502 5.5.1', '500 5.5.2', '501 5.5.4'],
    )
    assert.match(backend.record.violations.join(' '), /unknown verb FROB.*malformed MAIL/)
  }))

test('AUTH relays the one account that is good', () =>
  stage(
    [],
    async ({ talk }) => {
      const [ehlo] = await talk('EHLO c')
      assert.match(ehlo ?? '', /AUTH PLAIN LOGIN/)
      assert.deepEqual(await talk('AUTH PLAIN AHVzZXIAd3Jvbmc=', 'AUTH LOGIN', 'dXNlcg==', 'c2VjcmV0'), [
        '535 5.7.8 no',
        '334 VXNlcm5hbWU6',
        '334 UGFzc3dvcmQ6',
        '235 2.7.0 welcome',
      ])
      assert.deepEqual(await talk('AUTH PLAIN'), ['503 5.5.1 out of order'])
    },
    true,
  ))

test('STARTTLS, from both ends', () =>
  stage([{ ehlo_lines: ['STARTTLS'] }], async ({ client, backend, talk }) => {
    await talk('EHLO c', 'STARTTLS')
    const result = await client.startTls({ result: 'ok', sni: 'mx.example.com' }, 3000)
    assert.equal(result.ok && result.names.includes('DNS:mx.example.com'), true)
    assert.equal((await talk('EHLO c'))[0], '250 backend.example.com')
    assert.match(backend.record.raw.toString(), /STARTTLS\r\nEHLO c\r\n/)
  }))

test('a TLS version that the server refuses is a failed handshake', () =>
  stage([{ ehlo_lines: ['STARTTLS'] }], async ({ client, talk }) => {
    await talk('EHLO c', 'STARTTLS')
    const result = await client.startTls({ result: 'fail', min: '1.1', max: '1.1' }, 3000)
    assert.equal(result.ok, false)
  }))

test('end of data is found at every split, and only the strict one', () => {
  const stream = Buffer.from('a\r\n..\r\n\n.\r\nb\r\n.\rc\r\n.\r\nQUIT')
  for (let at = 0; at <= stream.length; at++) {
    const reader = new DotReader({ keep: true })
    const early = reader.push(stream.subarray(0, at))
    const late = stream.subarray(at)
    const rest = early === undefined ? reader.push(late) : Buffer.concat([early, late])
    assert.equal(rest?.toString(), 'QUIT')
    assert.equal(reader.content().toString(), 'a\r\n.\r\n\n.\r\nb\r\n\rc\r\n')
  }
})

test('a signed message verifies, and a changed one does not', async () => {
  for (const canon of ['simple/simple', 'relaxed/relaxed', undefined]) {
    const stuffed = await generate({ kind: 'dkim_signed', canon: canon ?? 'simple/relaxed' })
    const reader = new DotReader({ keep: true })
    reader.push(Buffer.concat([stuffed, Buffer.from('.\r\n')]))
    const message = reader.content()
    assert.equal(await dkimVerifies(Buffer.concat([Buffer.from('Received: by a proxy\r\n'), message])), true, canon)
    assert.equal(await dkimVerifies(Buffer.from(message.toString().replace('déjà', 'deja'))), false, canon)
  }
  assert.equal(await dkimVerifies(Buffer.from('From: a@b\r\n\r\nunsigned\r\n')), false)
})

test('nested multiparts open and close every level', async () => {
  const message = (await generate({ kind: 'nested_multipart', depth: 3, parts: 2, size: 100 })).toString()
  assert.equal(message.match(/^Content-Type: multipart\/mixed/gm)?.length, 3)
  assert.equal(message.match(/^--level-\d--\r$/gm)?.length, 3)
  assert.equal(dotStuffed(Buffer.from('.a\r\n..\r\n')).toString(), '..a\r\n...\r\n')
})

test('exact content: only header fields of the gateway may stand above it', () => {
  const content = Buffer.from('Subject: s\r\n\r\nx\r\n')
  const with_ = (above: string) => isExactly(Buffer.concat([Buffer.from(above), content]), content)
  assert.equal(with_(''), true)
  assert.equal(with_('Received: from a\r\n\tby b\r\nX-Spam-Flag: NO\r\n'), true)
  assert.equal(with_('\r\n'), false)
  assert.equal(with_('Subject: other\r\n'), false)
  assert.equal(isExactly(Buffer.from('Subject:  s\r\n\r\nx\r\n'), content), false)
})

test('checks say what is missing', async () => {
  await stage([], async ({ backend, talk }) => {
    await talk(...ENVELOPE, 'Subject: s\r\n\r\nx\r\n.\r\n')
    const [variant] = variantsOf(`check: {backend: {messages: {min: 2}, aborted: true, rcpts: [[z@example.com]],
      mail_from_not: a@example.net, raw: FROB, raw_not: EHLO, content: other, content_re: 'y', content_not: Subject, dkim_verifies: true},
      log: {re: word, not: line, single_line: true}, proxy: {alive: true, rss_growth_mb_max: 5}}`)
    const found = await runChecks(variant?.check ?? {}, {
      record: backend.record,
      log: 'a line\n',
      alive: false,
      memoryGrowth: 6,
    })
    const names = found.map((text) => text.slice(0, text.indexOf(':')))
    assert.deepEqual(names.sort(), [
      ...['aborted', 'content', 'content_not', 'content_re', 'dkim_verifies', 'mail_from_not', 'messages'].map(
        (n) => `backend.${n}`,
      ),
      ...['raw', 'raw_not', 'rcpts'].map((n) => `backend.${n}`),
      ...['log.not', 'log.re', 'log.single_line', 'proxy.alive', 'proxy.rss_growth_mb_max'],
    ])
  })
})

function variantsOf(fields: string): readonly Variant[] {
  const text = `cases: [{id: A-1, title: t, area: a, profile: mx, strength: must, steps: [{use: two}], ${fields}}]
vars: {WHO: "user@\${DOMAIN}", DOMAIN: example.com, X: "2"}
preludes: {one: [{send: "\${WHO}"}], two: [{use: one}, {expect: "^\${X}"}]}`
  const [only] = parseCaseFile(text).cases
  assert.ok(only !== undefined && 'variants' in only, only !== undefined && 'error' in only ? only.error : '')
  return only.variants
}

test('case files: preludes in preludes, variables in variables, for_each', () => {
  const variants = variantsOf('for_each: {X: ["250", 354]}')
  assert.deepEqual(
    variants.map((variant) => variant.label),
    ['X=250', 'X=354'],
  )
  const steps = variants[1]?.steps ?? []
  assert.deepEqual(
    steps.map((step) => [step.where, String(step.argument)]),
    [
      ['1.two.1.one.1', 'user@example.com'],
      ['1.two.2', '/^354/m'],
    ],
  )
})

test('what a case needs is read off the case', () => {
  const needs = (profile: string, rest: string): string[] => {
    const text = `cases: [{id: A-1, title: "t", area: a, profile: ${profile}, strength: must, ${rest}}]`
    const [only] = parseCaseFile(text).cases
    assert.ok(only !== undefined && 'variants' in only)
    return [...neededFeatures(only)]
  }
  assert.deepEqual(needs('mx', 'steps: [{send: "NOOP\\r\\n"}]'), [])
  assert.deepEqual(needs('mx', 'steps: [{send: "STARTTLS\\r\\n"}]'), ['tls'])
  assert.deepEqual(needs('mx_notlscert', 'steps: [{send: "STARTTLS\\r\\n"}]'), [])
  assert.deepEqual(needs('submissions', 'steps: [{tls: {}}]'), ['tls', 'auth'])
  assert.deepEqual(needs('mx_pp', 'steps: [{send: "x"}]'), ['proxy_protocol'])
  assert.deepEqual(needs('mx', 'steps: [{send: "BDAT 1\\r\\n"}], proxy: {chunking: false}'), [])
  assert.deepEqual(needs('mx', 'steps: [{send: "BDAT 1\\r\\n"}], proxy: {chunking: true}'), ['chunking'])
  const dsn = 'steps: [{send: "MAIL FROM:<> RET=FULL\\r\\n"}]'
  assert.deepEqual(needs('mx', dsn), ['dsn'])
  assert.deepEqual(needs('mx', `${dsn}, backend: [{ehlo_lines: [SIZE]}]`), [])
})
