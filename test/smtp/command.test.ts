import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { type Command, type Parameter, parseCommand } from '../../src/smtp/command.ts'
import { replyText } from '../../src/smtp/reply.ts'
import { octets, wireText } from '../support/splits.ts'

/** The command, from text that goes over the wire as UTF-8. */
function command(line: string): Command {
  const parsed = parseCommand(Buffer.from(line))
  assert.ok(parsed.kind === 'command', `${line}: ${parsed.kind === 'error' ? replyText(parsed.reply) : ''}`)
  return parsed.command
}

/** The verb and the beginning of the refusal: `MAIL 501 5.5.4`, with `close` where the session ends. */
function refusal(line: string | Buffer): string {
  const parsed = parseCommand(Buffer.from(line))
  assert.ok(parsed.kind === 'error', `${line} was taken`)
  const words = replyText(parsed.reply).split(' ').slice(0, 2)
  return [...(parsed.verb === '' ? [] : [parsed.verb]), ...words, ...(parsed.reply.close ? ['close'] : [])].join(' ')
}

function parameters(line: string): readonly Parameter[] {
  const seen = command(line)
  assert.ok(seen.verb === 'MAIL' || seen.verb === 'RCPT')
  return seen.parameters
}

const SENDER = { localPart: 'a', domain: 'example.net', utf8: false, routing: false }

suite('parseCommand: what is taken', () => {
  const table: readonly [line: string, command: Command][] = [
    ['DATA', { verb: 'DATA' }],
    ['RSET', { verb: 'RSET' }],
    ['QUIT', { verb: 'QUIT' }],
    ['STARTTLS', { verb: 'STARTTLS' }],
    ['quit', { verb: 'QUIT' }],
    ['RSET  \t ', { verb: 'RSET' }],
    ['NOOP', { verb: 'NOOP', argument: '' }],
    ['NOOP any thing', { verb: 'NOOP', argument: 'any thing' }],
    ['HELP', { verb: 'HELP', argument: '' }],
    ['HELP \t MAIL', { verb: 'HELP', argument: 'MAIL' }],
    ['VRFY user', { verb: 'VRFY', argument: 'user' }],
    ['EXPN list', { verb: 'EXPN', argument: 'list' }],
    ['AUTH PLAIN AHVzZXIAc2VjcmV0', { verb: 'AUTH', argument: 'PLAIN AHVzZXIAc2VjcmV0' }],
    ['BDAT 17 LAST', { verb: 'BDAT', argument: '17 LAST' }],
    ['MAIL FROM:<>', { verb: 'MAIL', path: null, parameters: [] }],
    ['MAIL FROM:<a@example.net>', { verb: 'MAIL', path: SENDER, parameters: [] }],
    ['mAiL fRoM:<a@example.net>', { verb: 'MAIL', path: SENDER, parameters: [] }],
    ['MAIL FROM: <a@example.net>', { verb: 'MAIL', path: SENDER, parameters: [] }], // departs
    ['MAIL  \tFROM:  <a@example.net> \t', { verb: 'MAIL', path: SENDER, parameters: [] }], // departs
    ['RCPT TO:<a@example.net>', { verb: 'RCPT', path: SENDER, parameters: [] }],
    ['RCPT TO: <a@example.net>', { verb: 'RCPT', path: SENDER, parameters: [] }], // departs
    [
      'RCPT TO:<Postmaster>',
      { verb: 'RCPT', path: { ...SENDER, localPart: 'Postmaster', domain: '' }, parameters: [] },
    ],
  ]
  for (const [line, want] of table) test(JSON.stringify(line), () => assert.deepEqual(command(line), want))

  const names: readonly [name: string, wellFormed: boolean][] = [
    ['mx.example.org', true],
    ['localhost', true],
    ['example.org.', true],
    ['[192.0.2.1]', true],
    ['[IPv6:2001:db8::1]', true],
    ['192.0.2.1', true], // a Domain as far as the grammar goes; what to think of it is a filter's affair
    ['my_pc', false],
    ['-x.example', false],
    ['x-.example', false],
    ['a..b', false],
    ['.', false],
    ['[192.0.2.300]', false],
    ['[example.org]', false],
    ['<script>', false],
    ['(evil)\\"', false],
    ['büro.example', false],
    ['x'.repeat(255), true],
  ]
  for (const [name, wellFormed] of names) {
    test(`EHLO ${name.slice(0, 30)} is ${wellFormed ? '' : 'not '}well-formed, and taken (RFC 5321 4.1.4)`, () => {
      assert.deepEqual(command(`ehlo ${name}`), { verb: 'EHLO', name, wellFormed })
      assert.deepEqual(command(`HELO ${name}`), { verb: 'HELO', name, wellFormed })
    })
  }
})

suite('parseCommand: what is refused', () => {
  const table: readonly [line: string, refusal: string][] = [
    // Verbs.
    ['', '500 5.5.1'],
    ['   ', '500 5.5.1'],
    [' NOOP', '500 5.5.1'],
    ['FROB x', '500 5.5.1'],
    ['ETRN example.org', '500 5.5.1'],
    ['TURN', '500 5.5.1'],
    ['MAILFROM', '500 5.5.1'],
    ['__proto__', '500 5.5.1'],
    ['constructor', '500 5.5.1'],
    ['toString x', '500 5.5.1'],
    ['DATAX', '500 5.5.1'],
    ['ＤＡＴＡ', '500 5.5.1'],
    ['\ufeffNOOP', '500 5.5.1'],
    ['NOOP\u00a0x', '500 5.5.1'],
    // Arguments.
    ['DATA x', 'DATA 501 5.5.4'],
    ['RSET x', 'RSET 501 5.5.4'],
    ['QUIT x', 'QUIT 501 5.5.4'],
    ['STARTTLS now', 'STARTTLS 501 5.5.4'],
    ['VRFY', 'VRFY 501 5.5.4'],
    ['EXPN', 'EXPN 501 5.5.4'],
    ['EHLO', 'EHLO 501 5.5.4'],
    ['HELO', 'HELO 501 5.5.4'],
    ['EHLO a b', 'EHLO 501 5.5.4'],
    ['EHLO a\tb', 'EHLO 501 5.5.4'],
    [`EHLO ${'x'.repeat(256)}`, 'EHLO 501 5.5.4'],
    // Paths.
    ['MAIL', 'MAIL 501 5.5.4'],
    ['MAIL FROM', 'MAIL 501 5.5.4'],
    ['MAIL FROM:', 'MAIL 501 5.1.7'],
    ['MAIL FROM :<a@example.net>', 'MAIL 501 5.5.4'],
    ['MAIL TO:<a@example.net>', 'MAIL 501 5.5.4'],
    ['MAIL FROM:a@example.net', 'MAIL 501 5.1.7'],
    ['MAIL FROM:<a@example.net', 'MAIL 501 5.1.7'],
    ['MAIL FROM:<a b@example.net>', 'MAIL 501 5.1.7'],
    ['MAIL FROM:<@relay.example:a@example.net>', 'MAIL 501 5.1.7'],
    [`MAIL FROM:<${'x'.repeat(300)}@example.net>`, 'MAIL 501 5.1.7'],
    ['RCPT', 'RCPT 501 5.5.4'],
    ['RCPT FROM:<a@example.org>', 'RCPT 501 5.5.4'],
    ['RCPT TO:a@example.org', 'RCPT 501 5.1.3'],
    ['RCPT TO:<>', 'RCPT 501 5.1.3'],
    ['RCPT TO:<root>', 'RCPT 501 5.1.3'],
    ['RCPT TO:<@relay.example:a@example.org>', 'RCPT 550 5.7.1'],
    [`RCPT TO:<a@${'x'.repeat(300)}>`, 'RCPT 501 5.1.3'],
    // Parameter syntax.
    ['MAIL FROM:<a@example.net>SIZE=1', 'MAIL 501 5.5.4'],
    ['MAIL FROM:<a@example.net> <b@example.net>', 'MAIL 501 5.5.4'],
    ['MAIL FROM:<a@example.net> SIZE=', 'MAIL 501 5.5.4'],
    ['MAIL FROM:<a@example.net> =1', 'MAIL 501 5.5.4'],
    ['MAIL FROM:<a@example.net> A=B=C', 'MAIL 501 5.5.4'],
    ['MAIL FROM:<a@example.net> -A', 'MAIL 501 5.5.4'],
    ['MAIL FROM:<a@example.net> __proto__=1', 'MAIL 501 5.5.4'],
    ['MAIL FROM:<a@example.net> \u00a0SIZE=1', 'MAIL 501 5.5.4'],
    ['MAIL FROM:<a@example.net> SIZE=1 \u00a0', 'MAIL 501 5.5.4'],
    ['MAIL FROM:<a@example.net> SÍZE=1', 'MAIL 501 5.5.4'],
    ['RCPT TO:<a@example.org>>', 'RCPT 501 5.5.4'],
    ['RCPT TO:<a@example.org> NOTIFY=', 'RCPT 501 5.5.4'],
    // Line content.
    ['NOOP \0', '500 5.5.2'],
    ['MAIL FROM:<a@example.net>\0 SIZE=9', '500 5.5.2'],
    ['MAIL FROM:<a\x01b@example.net>', '500 5.5.2'],
    ['EHLO cl\x1b[31mient\x07', '500 5.5.2'],
    ['NOOP \x7f', '500 5.5.2'],
    ['NOOP \u0085', '500 5.5.2'],
    ['NOOP a\rb', '500 5.5.2'],
    ['NOOP a\nb', '500 5.5.2'],
    ['\x16\x03\x01\x02', '500 5.5.2'],
  ]
  for (const [line, want] of table) test(JSON.stringify(line.slice(0, 60)), () => assert.equal(refusal(line), want))

  for (const bytes of ['\xff', '\xe9', '\xc3', '\xc0\x80', '\xed\xa0\x80', '\xf8\x88\x80\x80\x80']) {
    test(`octets that are not UTF-8: ${Buffer.from(bytes, 'latin1').toString('hex')}`, () => {
      assert.equal(refusal(octets(`NOOP ${bytes}`)), '500 5.5.2')
    })
  }

  const foreign = [
    ...[
      'GET / HTTP/1.1',
      'POST / HTTP/1.1',
      'get /',
      'PUT /',
      'HEAD /',
      'OPTIONS *',
      'CONNECT a:25',
      'DELETE /',
      'PATCH /',
    ],
    ...['TRACE /', 'PRI * HTTP/2.0', 'PROXY TCP4 192.0.2.1 192.0.2.2 1 25', 'SSH-2.0-x', 'USER anonymous'],
    ...['Host: mx.example.org', 'Subject: x', 'Content-Length:5', 'Received: from x', 'X-A_b.c: 1', 'from: a', 'a:'],
  ]
  for (const line of foreign) test(`${line} ends the session`, () => assert.equal(refusal(line), '421 4.7.0 close'))
})

suite('parameters', () => {
  test('keywords in upper case, values as they came, blanks and tabs between', () => {
    assert.deepEqual(parameters('MAIL FROM:<a@example.net> sIzE=100 \t bOdY=8bitmime SMTPUTF8'), [
      { keyword: 'SIZE', value: '100' },
      { keyword: 'BODY', value: '8bitmime' },
      { keyword: 'SMTPUTF8', value: undefined },
    ])
    assert.deepEqual(parameters('RCPT TO:<a@example.org> NOTIFY=NEVER ORCPT=rfc822;a+2Bb@example.org'), [
      { keyword: 'NOTIFY', value: 'NEVER' },
      { keyword: 'ORCPT', value: 'rfc822;a+2Bb@example.org' },
    ])
  })

  test('doubles are kept for the one who knows the keywords', () => {
    assert.equal(parameters('MAIL FROM:<> SIZE=1 SIZE=2').length, 2)
  })

  test('an attacker’s keyword is a value like any other', () => {
    assert.deepEqual(parameters('MAIL FROM:<> constructor=1 toString'), [
      { keyword: 'CONSTRUCTOR', value: '1' },
      { keyword: 'TOSTRING', value: undefined },
    ])
  })
})

suite('beyond ASCII', () => {
  test('MAIL needs the parameter SMTPUTF8, wherever it stands behind the address', () => {
    for (const path of ['<ü@example.net>', '<a@bücher.example>', '<"ü x"@example.net>']) {
      assert.equal(refusal(`MAIL FROM:${path}`), 'MAIL 550 5.6.7') // RFC 6531 3.5
      assert.equal(refusal(`MAIL FROM:${path} SIZE=1`), 'MAIL 550 5.6.7')
      assert.equal(parameters(`MAIL FROM:${path} SIZE=1 smtputf8`).length, 2)
      assert.equal(parameters(`MAIL FROM:${path} \tSMTPUTF8 BODY=8BITMIME`).length, 2)
    }
  })

  test('the word inside an address or another parameter declares nothing', () => {
    assert.equal(refusal('MAIL FROM:<"x SMTPUTF8 ü"@example.net>'), 'MAIL 550 5.6.7')
    assert.equal(refusal('MAIL FROM:<ü@example.net> XSMTPUTF8'), 'MAIL 550 5.6.7')
    assert.equal(refusal('MAIL FROM:<ü@example.net> ENVID=SMTPUTF8'), 'MAIL 550 5.6.7')
  })

  test('RCPT leaves it to the transaction', () => {
    const seen = command('RCPT TO:<ü@bücher.example>')
    assert.ok(seen.verb === 'RCPT')
    assert.deepEqual(seen.path, { localPart: 'ü', domain: 'xn--bcher-kva.example', utf8: true, routing: false })
  })
})

suite('parseCommand: properties', () => {
  const start = fc.constantFrom(
    '',
    'MAIL FROM:<',
    'RCPT TO:<',
    'MAIL FROM:<a@b> ',
    'EHLO ',
    'NOOP ',
    'VRFY ',
    'BDAT ',
    'DATA',
  )
  const octet = fc.constantFrom(...'ab@<>"\\ =;:.[]%', '\0', '\t', '\x1b', '\xff', '\xc3\xbc', '\xe2\x80\xa8', ' SIZE=')
  const line = fc.array(octet, { maxLength: 20, size: 'max' }).map((pieces) => pieces.join(''))

  test('any line gives a command without controls, or a refusal that is one good line', () => {
    fc.assert(
      fc.property(start, fc.oneof(line, wireText(20)), (head, tail) => {
        const parsed = parseCommand(octets(head + tail))
        if (parsed.kind === 'error') {
          assert.match(replyText(parsed.reply), /^[45]\d\d [45]\.\d\.\d [ -~]+\r\n$/)
          // Only another protocol, or a BDAT whose payload cannot be told from commands, ends the session.
          const ends = parsed.reply.code === 421 || (parsed.reply.code === 500 && /^BDAT/i.test(head + tail))
          assert.equal(parsed.reply.close === true, ends)
          return
        }
        const strings: string[] = []
        JSON.stringify(parsed.command, (_, value: unknown) => {
          if (typeof value === 'string') strings.push(value)
          return value
        })
        for (const text of strings) assert.doesNotMatch(text, /[\x00-\x08\x0a-\x1f\x7f-\x9f]/)
      }),
      { numRuns: 5000 },
    )
  })
})
