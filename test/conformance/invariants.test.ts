// The checker of the invariants must itself be seen to fail: octets in, complaints out.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LineEndGuard } from './backend-syntax.ts'
import { CommandTracker } from './command-tracker.ts'
import { ReplyChecker, type ReplyContext } from './invariants.ts'
import { ReplyReader } from './reply-reader.ts'

const CONTEXT: ReplyContext = {
  backendPort: 34567,
  gatewayVersion: '0.1.0',
  scriptedReplies: [],
  acceptedByBackend: () => 0,
  localDisposition: false,
}

/** Complaints about the replies to what was sent after the banner. */
function complaints(sent: string, replies: string, context: Partial<ReplyContext> = {}): string[] {
  const checker = new ReplyChecker({ ...CONTEXT, ...context })
  const tracker = new CommandTracker({ proxyHeader: false })
  tracker.reply(220)
  const reader = new ReplyReader()
  tracker.sent(Buffer.from(sent, 'latin1'))
  return reader.push(Buffer.from(replies, 'latin1')).flatMap((r) => checker.check(r, tracker.reply(r.code)))
}

function complains(sent: string, replies: string, about: RegExp, context: Partial<ReplyContext> = {}): void {
  const found = complaints(sent, replies, context)
  assert.ok(
    found.some((text) => about.test(text)),
    `${JSON.stringify(replies)} gave ${JSON.stringify(found)}`,
  )
}

test('good replies give no complaint', () => {
  const session = 'EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\nFROB\r\nQUIT\r\n'
  const replies =
    '250-mx.example.com\r\n250 SIZE 1000\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go\r\n250 2.0.0 queued as 1\r\n500 5.5.2 no\r\n221 2.0.0 bye\r\n'
  assert.deepEqual(complaints(session, replies, { acceptedByBackend: () => 1 }), [])
})

test('the form of a reply', () => {
  complains('NOOP\r\n', '250 2.0.0 ok\n', /bare LF/)
  complains('NOOP\r\n', '250 2.0.0 o\rk\r\n', /bare CR/)
  complains('NOOP\r\n', '250 2.0.0 o\0k\r\n', /NUL/)
  complains('NOOP\r\n', `250 2.0.0 ${'x'.repeat(501)}\r\n`, /513 octets/)
  assert.deepEqual(complaints('NOOP\r\n', `250 2.0.0 ${'x'.repeat(500)}\r\n`), [])
  complains('NOOP\r\n', '250-2.0.0 one\r\n251 2.0.0 two\r\n', /codes 250 and 251/)
  complains('NOOP\r\n', 'what?\r\n', /without code/)
  assert.deepEqual(complaints('EHLO a\r\n', '250\r\n'), [])
})

test('enhanced codes', () => {
  complains('NOOP\r\n', '250 5.0.0 ok\r\n', /class 5 in a 250 reply/)
  complains('RCPT TO:<a@b>\r\n', '550-5.1.1 one\r\n550 4.1.1 two\r\n', /class 4 in a 550 reply/)
  complains('RCPT TO:<a@b>\r\n', '550 no such user\r\n', /no enhanced code/)
  complains('EHLO a\r\n', '250 2.0.0 hello\r\n', /where none belongs/)
  complains('DATA\r\n', '354 3.0.0 go\r\n', /class 3|where none belongs/)
  const scriptedReplies = ['450 greylisted']
  assert.deepEqual(complaints('RCPT TO:<a@b>\r\n', '450 greylisted\r\n', { scriptedReplies }), [])
  complains('RCPT TO:<a@b>\r\n', '451 greylisted\r\n', /no enhanced code/, { scriptedReplies })
})

test('the order of commands and replies', () => {
  complains('NOOP\r\n', '250 2.0.0 ok\r\n250 2.0.0 ok\r\n', /reply 250 to no command/)
  complains('EHLO a\r\n', '220 mx.example.com\r\n', /220 does not belong to EHLO/)
  complains('RSET\r\n', '354 go\r\n', /354 does not belong to RSET/)
  assert.deepEqual(complaints('', '421 4.4.2 too slow\r\n'), [], '421 may come at any time')
  // One message, two answers: the second is for what was smuggled in.
  const smuggled = 'DATA\r\nx\n.\nMAIL FROM:<a@b>\r\n.\r\n'
  complains(smuggled, '354 go\r\n250 2.0.0 ok\r\n250 2.1.0 ok\r\n', /reply 250 to no command/, {
    acceptedByBackend: () => 1,
  })
  complains('DATA\r\nx\n.\nNOOP\r\n', '354 go\r\n250 2.0.0 ok\r\n', /250 in the middle of a message/)
})

test('octets of a chunk are no commands', () => {
  const chunk = 'BDAT 6 LAST\r\nNOOP\r\nRSET\r\n'
  assert.deepEqual(complaints(chunk, '503 5.5.1 no\r\n250 2.0.0 reset\r\n'), [])
  complains(chunk, '503 5.5.1 no\r\n250 2.0.0 noop\r\n250 2.0.0 reset\r\n', /reply 250 to no command/)
})

test('a message is promised only after the backend took it', () => {
  const message = 'DATA\r\nx\r\n.\r\n'
  complains(message, '354 go\r\n250 2.0.0 ok\r\n', /backend has not accepted/)
  assert.deepEqual(complaints(message, '354 go\r\n250 2.0.0 ok\r\n', { localDisposition: true }), [])
})

test('disclosures', () => {
  const refused = (text: string) => `451 4.4.1 ${text}\r\n`
  complains('NOOP\r\n', refused('cannot reach 127.0.0.1:34567'), /address of the backend/)
  complains('NOOP\r\n', refused('connect ECONNREFUSED'), /system error/)
  complains('NOOP\r\n', refused('cannot read /var/spool/postern/x'), /file path/)
  complains('NOOP\r\n', refused('TypeError: x is not a function'), /stack trace/)
  complains('NOOP\r\n', refused('at serve (session.ts:12:3)'), /stack trace/)
  complains('NOOP\r\n', refused('Postern 0.2'), /software version/)
  complains('NOOP\r\n', refused('mx.example.com (0.1.0)'), /software version/)
  assert.deepEqual(complaints('NOOP\r\n', refused('try again later, id 4f2a-9/17')), [])
})

test('what the gateway may not send to a backend', () => {
  const look = (...chunks: string[]) => {
    const guard = new LineEndGuard()
    return chunks.flatMap((chunk) => guard.look(Buffer.from(chunk, 'latin1')))
  }
  assert.deepEqual(look('MAIL\r', '\nx\r\n'), [])
  assert.deepEqual(look('a\nb\r\n'), ['a bare LF'])
  assert.deepEqual(look('a\r', 'b\r\n'), ['a bare CR'])
  assert.deepEqual(look('a\0b\r\n'), ['a NUL'])
})
