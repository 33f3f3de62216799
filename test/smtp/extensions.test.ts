import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { parseCommand } from '../../src/smtp/command.ts'
import {
  carries,
  commonOffer,
  type EhloProfile,
  type MailParameters,
  mailParametersText,
  type Offer,
  offerLines,
  type Parsed,
  parseEhlo,
  parseMailParameters,
  parseRcptParameters,
  type RcptParameters,
  rcptParametersText,
} from '../../src/smtp/extensions.ts'
import { replyText } from '../../src/smtp/reply.ts'

const ALL: Offer = { size: 1_000_000, eightBitMime: true, smtpUtf8: true, dsn: true, auth: [] }
const NOTHING: Offer = { size: 1_000_000, eightBitMime: false, smtpUtf8: false, dsn: false, auth: [] }
const PLAIN: EhloProfile = {
  size: Number.POSITIVE_INFINITY,
  pipelining: false,
  eightBitMime: false,
  smtpUtf8: false,
  dsn: false,
  startTls: false,
  auth: [],
  xclient: new Set(),
}
const RICH: EhloProfile = {
  ...PLAIN,
  size: 10_485_760,
  pipelining: true,
  eightBitMime: true,
  smtpUtf8: true,
  dsn: true,
}

function mail(words: string, offer = ALL): Parsed<MailParameters> {
  const parsed = parseCommand(Buffer.from(`MAIL FROM:<> ${words}`))
  assert.ok(parsed.kind === 'command' && parsed.command.verb === 'MAIL', words)
  return parseMailParameters(parsed.command.parameters, offer)
}

function rcpt(words: string, offer = ALL): Parsed<RcptParameters> {
  const parsed = parseCommand(Buffer.from(`RCPT TO:<a@example.org> ${words}`))
  assert.ok(parsed.kind === 'command' && parsed.command.verb === 'RCPT', words)
  return parseRcptParameters(parsed.command.parameters, offer)
}

/** The values, or the start of the refusal: `501 5.5.4`. */
function outcome<T>(parsed: Parsed<T>): T | string {
  return parsed.kind === 'ok' ? parsed.value : replyText(parsed.reply).slice(0, 9)
}

suite('parseEhlo', () => {
  const table: readonly [title: string, lines: string[], profile: Partial<EhloProfile>][] = [
    ['no keywords', ['mx'], {}],
    ['no lines', [], {}],
    [
      'the usual ones',
      ['mx', 'PIPELINING', 'SIZE 10485760', '8BITMIME', 'SMTPUTF8', 'DSN', 'VRFY', 'XCLIENT NAME addr'],
      { ...RICH, xclient: new Set(['NAME', 'ADDR']) },
    ],
    ['any case', ['mx', 'pipelining', 'Size 10485760', '8BitMime', 'smtputf8', 'dsn'], RICH],
    ['blanks', ['mx', ' PIPELINING ', 'SIZE   100', 'DSN\t'], { pipelining: true, size: 100, dsn: true }],
    ['the greeting is no keyword', ['DSN'], {}],
    ['SIZE without a number: none', ['mx', 'SIZE'], {}],
    ['SIZE 0: none', ['mx', 'SIZE 0'], {}],
    ['SIZE with rubbish: none', ['mx', 'SIZE lots'], {}],
    ['SIZE beyond all numbers: none', ['mx', 'SIZE 99999999999999999999'], {}],
    ['keywords as an attacker names them', ['mx', '__proto__ 1', 'constructor', ''], {}],
  ]
  for (const [title, lines, profile] of table) {
    test(title, () => assert.deepEqual(parseEhlo(lines), { ...PLAIN, ...profile }))
  }
})

suite('the offer', () => {
  test('is what every backend can, and the smallest size', () => {
    assert.deepEqual(commonOffer([RICH, { ...RICH, size: 500 }], 1000), { ...ALL, size: 500 })
    assert.deepEqual(commonOffer([RICH, PLAIN], 1000), { ...NOTHING, size: 1000 })
    assert.deepEqual(commonOffer([{ ...RICH, dsn: false }, RICH], 1000), { ...ALL, size: 1000, dsn: false })
  })

  test('has no SMTPUTF8 without 8BITMIME (RFC 6531 3.1)', () => {
    assert.equal(commonOffer([{ ...RICH, eightBitMime: false }], 1000).smtpUtf8, false)
    assert.equal(
      commonOffer(
        [
          { ...RICH, smtpUtf8: false },
          { ...RICH, eightBitMime: false },
        ],
        1000,
      ).smtpUtf8,
      false,
    )
  })

  test('in the lines of EHLO', () => {
    const all = ['PIPELINING', 'SIZE 1000000', '8BITMIME', 'ENHANCEDSTATUSCODES', 'SMTPUTF8', 'DSN']
    assert.deepEqual(offerLines(ALL), all)
    assert.deepEqual(offerLines(NOTHING), ['PIPELINING', 'SIZE 1000000', 'ENHANCEDSTATUSCODES'])
  })

  test('read as a server would read it, gives itself', () => {
    for (const offer of [ALL, NOTHING])
      assert.deepEqual(commonOffer([parseEhlo(['mx', ...offerLines(offer)])], 1e9), offer)
  })
})

const BAD = '501 5.5.4'
const UNKNOWN = '555 5.5.4'

suite('parameters of MAIL', () => {
  const table: readonly [words: string, outcome: MailParameters | string][] = [
    ['SIZE=0', { size: 0 }],
    ['SIZE=1000', { size: 1000 }],
    ['SIZE=00012', { size: 12 }],
    ['SIZE=99999999999999999999', { size: 1e20 }],
    ['BODY=8BITMIME', { body: '8BITMIME' }],
    ['body=7bit', { body: '7BIT' }],
    ['SMTPUTF8', { smtpUtf8: true }],
    ['RET=FULL', { ret: 'FULL' }],
    ['RET=hdrs', { ret: 'HDRS' }],
    ['ENVID=abc+2B+3D+20x', { envid: 'abc+2B+3D+20x' }],
    [`ENVID=${'x'.repeat(100)}`, { envid: 'x'.repeat(100) }],
    [
      'SIZE=5 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=q',
      { size: 5, body: '8BITMIME', smtpUtf8: true, ret: 'HDRS', envid: 'q' },
    ],
    // Values that their RFC does not know.
    ['SIZE', BAD],
    ['SIZE=1e3', BAD],
    ['SIZE=-1', BAD],
    ['SIZE=+1', BAD],
    ['SIZE=0x10', BAD],
    ['SIZE=1.5', BAD],
    ['SIZE=٣', BAD],
    ['SIZE=999999999999999999999', BAD],
    ['BODY', BAD],
    ['BODY=9BIT', BAD],
    ['BODY=BINARYMIME', BAD],
    ['SMTPUTF8=1', BAD],
    ['RET', BAD],
    ['RET=ALL', BAD],
    ['ENVID', BAD],
    [`ENVID=${'x'.repeat(101)}`, BAD],
    ['ENVID=a+', BAD],
    ['ENVID=a+2', BAD],
    ['ENVID=a+2b', BAD],
    ['ENVID=a+GG', BAD],
    ['ENVID=ü', BAD],
    // A line end in disguise, which a DSN would bring to light.
    ['ENVID=a+0D+0ABcc:x', BAD],
    ['ENVID=a+00', BAD],
    ['ENVID=a+7F', BAD],
    ['ENVID=a+85', BAD],
    // Doubles.
    ['SIZE=1 SIZE=1', BAD],
    ['SIZE=1 size=2', BAD],
    ['SMTPUTF8 SMTPUTF8', BAD],
    // Parameters that we do not know or that belong elsewhere.
    ['FOO=BAR', UNKNOWN],
    ['FOO', UNKNOWN],
    ['SIZE=1 FOO', UNKNOWN],
    ['NOTIFY=NEVER', UNKNOWN],
    ['XVERP', UNKNOWN],
    ['constructor=1', UNKNOWN],
    ['toString', UNKNOWN],
    ['hasOwnProperty', UNKNOWN],
  ]
  for (const [words, want] of table) test(words.slice(0, 50), () => assert.deepEqual(outcome(mail(words)), want))

  for (const words of ['BODY=8BITMIME', 'BODY=7BIT', 'SMTPUTF8', 'RET=FULL', 'ENVID=x']) {
    test(`${words} that was not announced`, () => assert.equal(outcome(mail(words, NOTHING)), UNKNOWN))
  }

  test('SIZE is always announced', () => assert.deepEqual(outcome(mail('SIZE=5', NOTHING)), { size: 5 }))
  test('none', () => assert.deepEqual(outcome(parseMailParameters([], NOTHING)), {}))
  test('a keyword that no line can hold', () => {
    assert.equal(outcome(parseMailParameters([{ keyword: '__proto__', value: 'x' }], ALL)), UNKNOWN)
    assert.equal(outcome(parseRcptParameters([{ keyword: '__proto__', value: 'x' }], ALL)), UNKNOWN)
  })
})

suite('parameters of RCPT', () => {
  const table: readonly [words: string, outcome: RcptParameters | string][] = [
    ['NOTIFY=NEVER', { notify: 'NEVER' }],
    ['notify=never', { notify: 'NEVER' }],
    ['NOTIFY=SUCCESS', { notify: 'SUCCESS' }],
    ['NOTIFY=success,Failure,DELAY', { notify: 'SUCCESS,FAILURE,DELAY' }],
    ['NOTIFY=DELAY,SUCCESS', { notify: 'DELAY,SUCCESS' }],
    ['ORCPT=rfc822;user@example.org', { orcpt: 'rfc822;user@example.org' }],
    ['ORCPT=RFC822;a+2Bb+20c@example.org', { orcpt: 'RFC822;a+2Bb+20c@example.org' }],
    ['ORCPT=utf-8;ü@bücher.example', { orcpt: 'utf-8;ü@bücher.example' }],
    ['ORCPT=utf-8;\\x{FC}@example.org', { orcpt: 'utf-8;\\x{FC}@example.org' }],
    ['ORCPT=x-local;1', { orcpt: 'x-local;1' }],
    ['NOTIFY=FAILURE ORCPT=rfc822;user@example.org', { notify: 'FAILURE', orcpt: 'rfc822;user@example.org' }],
    ['NOTIFY', BAD],
    ['NOTIFY=NEVER,SUCCESS', BAD],
    ['NOTIFY=SUCCESS,NEVER', BAD],
    ['NOTIFY=SUCCESS,SUCCESS', BAD],
    ['NOTIFY=SUCCESS,', BAD],
    ['NOTIFY=,', BAD],
    ['NOTIFY=ALWAYS', BAD],
    ['ORCPT', BAD],
    ['ORCPT=user@example.org', BAD],
    ['ORCPT=rfc822;', BAD],
    ['ORCPT=;user@example.org', BAD],
    ['ORCPT=rfc822;a+2bb@example.org', BAD],
    ['ORCPT=rfc822;ü@example.org', BAD],
    ['ORCPT=rfc822;a+0D+0ABcc:x@example.org', BAD],
    ['ORCPT=utf-8;a+2Bb@example.org', BAD],
    [`ORCPT=rfc822;${'x'.repeat(494)}`, BAD],
    ['NOTIFY=NEVER NOTIFY=NEVER', BAD],
    ['FOO', UNKNOWN],
    ['SIZE=5', UNKNOWN],
    ['constructor', UNKNOWN],
  ]
  for (const [words, want] of table) test(words.slice(0, 50), () => assert.deepEqual(outcome(rcpt(words)), want))

  for (const words of ['NOTIFY=NEVER', 'ORCPT=rfc822;user@example.org']) {
    test(`${words} that was not announced`, () => assert.equal(outcome(rcpt(words, NOTHING)), UNKNOWN))
  }
})

suite('parameters on their way to the backend', () => {
  test('are rebuilt in our own spelling', () => {
    const seen = outcome(mail('envid=q ret=full smtputf8 body=8bitmime size=007'))
    assert.ok(typeof seen !== 'string')
    assert.equal(mailParametersText(seen), ' SIZE=7 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=q')
    assert.equal(mailParametersText({}), '')
    assert.equal(
      rcptParametersText({ notify: 'SUCCESS,DELAY', orcpt: 'rfc822;x' }),
      ' NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x',
    )
    assert.equal(rcptParametersText({}), '')
  })

  test('mean to the backend what they meant to us, whatever came', () => {
    const word = fc.constantFrom(
      ...['SIZE=12', 'size=0', 'BODY=7bit', 'BODY=8BITMIME', 'SMTPUTF8', 'RET=full', 'ENVID=a+20b', 'ENVID=a+0A'],
      ...['NOTIFY=success,delay', 'NOTIFY=NEVER', 'ORCPT=rfc822;a', 'ORCPT=utf-8;ü', 'FOO'],
    )
    fc.assert(
      fc.property(fc.array(word, { maxLength: 5 }), (words) => {
        const asMail = mail(words.join(' '))
        if (asMail.kind === 'ok') assert.deepEqual(mail(mailParametersText(asMail.value)), asMail)
        const asRcpt = rcpt(words.join(' '))
        if (asRcpt.kind === 'ok') assert.deepEqual(rcpt(rcptParametersText(asRcpt.value)), asRcpt)
      }),
      { numRuns: 2000 },
    )
  })

  const table: readonly [
    title: string,
    profile: Partial<EhloProfile>,
    p: MailParameters,
    dsn: boolean,
    can: boolean,
  ][] = [
    ['nothing asked', {}, {}, false, true],
    ['SIZE and 7BIT ask for nothing', {}, { size: 5, body: '7BIT' }, false, true],
    ['8BITMIME', { eightBitMime: true }, { body: '8BITMIME' }, false, true],
    ['8BITMIME that it lacks', {}, { body: '8BITMIME' }, false, false],
    ['SMTPUTF8', { smtpUtf8: true }, { smtpUtf8: true }, false, true],
    ['SMTPUTF8 that it lacks', { eightBitMime: true }, { smtpUtf8: true }, false, false],
    ['RET', { dsn: true }, { ret: 'FULL' }, false, true],
    ['RET that it lacks', {}, { ret: 'FULL' }, false, false],
    ['ENVID that it lacks', {}, { envid: 'x' }, false, false],
    ['NOTIFY or ORCPT', { dsn: true }, {}, true, true],
    ['NOTIFY or ORCPT that it lacks', {}, {}, true, false],
  ]
  for (const [title, profile, p, dsn, can] of table) {
    test(`carries: ${title}`, () => assert.equal(carries({ ...PLAIN, ...profile }, p, dsn), can))
  }
})
