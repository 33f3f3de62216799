// What may pass in an AUTH exchange: base64 and nothing else, whoever sends it.
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { accountOf, isBase64, parseAuth, relayableMechanisms } from '../../src/smtp/sasl.ts'

const base64 = (text: string) => Buffer.from(text, 'utf8').toString('base64')

suite('parseAuth', () => {
  const good: readonly [argument: string, mechanism: string, initial: string | undefined][] = [
    ['PLAIN', 'PLAIN', undefined],
    ['plain AGEAYg==', 'PLAIN', 'AGEAYg=='],
    ['PLAIN  AGEAYg==', 'PLAIN', 'AGEAYg=='],
    ['LOGIN =', 'LOGIN', '='],
    ['SCRAM-SHA-256 biwsbj1h', 'SCRAM-SHA-256', 'biwsbj1h'],
    ['X_20-characters-long', 'X_20-CHARACTERS-LONG', undefined],
    ['PLAIN +/+/', 'PLAIN', '+/+/'],
  ]
  for (const [argument, mechanism, initial] of good) {
    test(argument, () => assert.deepEqual(parseAuth(argument), { kind: 'ok', mechanism, initial }))
  }

  const bad = [
    '',
    ' PLAIN',
    'PLAIN ',
    'PLAIN\tAGEAYg==',
    'PLAIN AGEAYg== more',
    'PLAIN AGEAYg',
    'PLAIN ==',
    'PLAIN ====',
    'PLAIN A===',
    'PLAIN AGEA=AGE',
    'PLAIN AG-_',
    'PLAIN *',
    'PLAIN AGEAYg==\r\nMAIL',
    'PLAIN AGEA\nYg==',
    'PLAIN\nAGEA',
    'PLAIN AGEA\n',
    'PLAIN AGEAYg==\0',
    'PLAIN.X',
    'X_21-characters-long-',
    'PL\u0131IN',
  ]
  for (const argument of bad) {
    test(`not ${JSON.stringify(argument)}`, () => assert.deepEqual(parseAuth(argument), { kind: 'error' }))
  }

  test('what it lets through is a name, and base64 or "=", on one line', () => {
    const piece = fc.constantFrom('PLAIN', 'LOGIN', ' ', '=', '==', 'AGEA', 'YQ', '*', '\r', '\n', '\0', '\t', 'é')
    fc.assert(
      fc.property(
        fc.oneof(
          fc.array(piece).map((p) => p.join('')),
          fc.string({ unit: 'binary' }),
        ),
        (argument) => {
          const parsed = parseAuth(argument)
          if (parsed.kind === 'error') return
          assert.match(parsed.mechanism, /^[A-Z0-9_-]{1,20}$/)
          if (parsed.initial !== undefined && parsed.initial !== '=') assert.ok(decodes(parsed.initial))
        },
      ),
    )
  })
})

// Another way to tell: a decoder that throws.
function decodes(text: string): boolean {
  try {
    return !/\s/.test(text) && text.length % 4 === 0 && atob(text) !== undefined
  } catch {
    return false
  }
}

suite('isBase64', () => {
  test('everything that an encoder writes', () =>
    fc.assert(fc.property(fc.uint8Array(), (octets) => isBase64(Buffer.from(octets).toString('base64')))))

  test('as a decoder sees it, for any text', () => {
    const character = fc.constantFrom(...'AZaz09+/=-_* \r\n\0\u00e9')
    fc.assert(
      fc.property(fc.string({ unit: character, maxLength: 12 }), (text) => assert.equal(isBase64(text), decodes(text))),
      { numRuns: 1000 },
    )
  })

  test('one foreign octet anywhere spoils it', () => {
    const foreign = fc.integer({ min: 0, max: 255 }).map((c) => String.fromCharCode(c))
    const spoiled = fc.tuple(
      fc.uint8Array({ minLength: 3, maxLength: 60 }),
      fc.nat(),
      foreign.filter((c) => !/[A-Za-z0-9+/=]/.test(c)),
    )
    fc.assert(
      fc.property(spoiled, ([octets, at, c]) => {
        const text = Buffer.from(octets).toString('base64')
        const place = at % (text.length + 1)
        assert.equal(isBase64(text.slice(0, place) + c + text.slice(place)), false)
        assert.equal(isBase64(text.slice(0, place) + c + text.slice(place + 1)), false)
      }),
    )
  })

  test('as long as a line may be', () => {
    assert.equal(isBase64('abcd'.repeat(3071)), true)
    assert.equal(isBase64(`${'abcd'.repeat(3071)}*`), false)
  })
})

suite('relayableMechanisms', () => {
  test('keeps the order, knows any case', () =>
    assert.deepEqual(relayableMechanisms(['login', 'Plain', 'SCRAM-SHA-256']), ['LOGIN', 'PLAIN', 'SCRAM-SHA-256']))

  for (const name of ['SCRAM-SHA-256-PLUS', 'GSSAPI', 'NTLM', 'CRAM-MD5', 'DIGEST-MD5', 'EXTERNAL', 'ANONYMOUS', '']) {
    test(`not ${name === '' ? 'nothing' : name}`, () => assert.deepEqual(relayableMechanisms([name]), []))
  }
})

suite('accountOf', () => {
  const table: readonly [what: string, mechanism: string, answers: readonly string[], account: string | undefined][] = [
    ['PLAIN', 'PLAIN', [base64('\0jim\0tulip')], 'jim'],
    ['PLAIN for somebody else', 'PLAIN', [base64('boss\0jim\0tulip')], 'jim'],
    ['in any case', 'PLAIN', [base64('\0Jim@Example.ORG\0tulip')], 'jim@example.org'],
    ['PLAIN without a name', 'PLAIN', [base64('\0\0tulip')], undefined],
    ['PLAIN without NUL', 'PLAIN', [base64('tulip')], undefined],
    ['PLAIN without a password', 'PLAIN', [base64('\0jim')], 'jim'],
    ['LOGIN', 'LOGIN', [base64('Jim'), base64('tulip')], 'jim'],
    ['LOGIN with an empty name', 'LOGIN', ['', base64('tulip')], undefined],
    ['nothing yet', 'LOGIN', [], undefined],
    ['a mechanism that hides it', 'SCRAM-SHA-256', [base64('n,,n=jim,r=1')], undefined],
    ['a long one is cut', 'LOGIN', [base64('a'.repeat(1000))], 'a'.repeat(255)],
    ['octets that are no text', 'LOGIN', ['/////w=='], '\ufffd\ufffd\ufffd\ufffd'],
  ]
  for (const [what, mechanism, answers, account] of table) {
    test(what, () => assert.equal(accountOf(mechanism, answers), account))
  }

  test('never throws, and is never the password of PLAIN or LOGIN', () => {
    const part = fc.string({ unit: 'binary', maxLength: 20 }).filter((text) => !text.includes('\0'))
    fc.assert(
      fc.property(part, part, (name, authorization) => {
        const known = [
          accountOf('PLAIN', [base64(`${authorization}\0${name}\0s3cret-tulip`)]),
          accountOf('LOGIN', [base64(name), base64('s3cret-tulip')]),
        ]
        for (const account of known) assert.ok(account === undefined || !account.includes('s3cret-tulip'))
      }),
    )
    fc.assert(
      fc.property(fc.constantFrom('PLAIN', 'LOGIN', 'X'), fc.array(fc.string({ unit: 'binary' })), (name, answers) => {
        const account = accountOf(name, answers)
        // Lower case may be longer than what it was made of ("İ").
        assert.ok(account === undefined || (account.length > 0 && account.length <= 3 * 255))
      }),
    )
  })
})
