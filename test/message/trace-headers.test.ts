// The headers that are put on, and the forged ones that are taken out.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseHeader } from '../../src/message/headers.ts'
import { isForged, mailDate, receivedHeader, spamHeaders } from '../../src/message/trace-headers.ts'
import { octets } from '../support/splits.ts'

const HOST = 'mx.example.org'
const trace = {
  hostname: HOST,
  id: 'ABC.1',
  client: '192.0.2.7',
  helo: 'client.example.net',
  protocol: 'ESMTP',
  date: new Date('2026-03-01T04:05:06Z'),
}

test('Received, as RFC 5321 4.4 has it', () => {
  assert.equal(
    receivedHeader(trace),
    'Received: from client.example.net ([192.0.2.7])\r\n' +
      '\tby mx.example.org (Postern) with ESMTP id ABC.1;\r\n' +
      '\tSun, 1 Mar 2026 04:05:06 +0000\r\n',
  )
  assert.match(receivedHeader({ ...trace, client: '2001:db8::1' }), /\(\[IPv6:2001:db8::1\]\)\r\n/)
})

for (const helo of ['localhost', 'a_b.example', '[192.0.2.1]', '[IPv6:2001:db8::1]', 'x', 'EXAMPLE.org', '1.2']) {
  test(`the HELO name '${helo}' stands as it is`, () => {
    assert.ok(receivedHeader({ ...trace, helo }).startsWith(`Received: from ${helo} (`))
  })
}

for (const helo of [
  '',
  ' ',
  'a b',
  'a\r\nX-Spam-Flag: NO',
  'a\nb',
  '(comment)',
  'a(b',
  'a;b',
  'a"b',
  'example.org.',
  '-a',
  '[192.0.2.1',
  '[exe]',
  'b\xfccher.example',
  'b\u00fc\u4e00.example',
  'a\0b',
  `a${'b'.repeat(300)}`,
  'by mx.example.org',
]) {
  test(`the HELO name ${JSON.stringify(helo.slice(0, 30))} is replaced`, () => {
    assert.equal(receivedHeader({ ...trace, helo }), receivedHeader({ ...trace, helo: 'invalid.helo' }))
  })
}

test('whatever a client says, Received is one field of printable ASCII', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 80 }), (helo) => {
      const text = receivedHeader({ ...trace, helo })
      assert.match(text, /^[\t\r\n -~]*$/)
      assert.equal(parseHeader(octets(text)).fields.length, 1)
    }),
  )
})

for (const [iso, text] of [
  ['2026-01-31T23:59:59Z', 'Sat, 31 Jan 2026 23:59:59 +0000'],
  ['2024-02-29T00:00:00Z', 'Thu, 29 Feb 2024 00:00:00 +0000'],
  ['2026-12-06T09:08:07Z', 'Sun, 6 Dec 2026 09:08:07 +0000'],
] as const) {
  test(`the date ${iso}`, () => assert.equal(mailDate(new Date(iso)), text))
}

test('the headers of a message without a finding, and of a marked one', () => {
  assert.equal(
    spamHeaders({ tagged: false, score: 0, required: 5, tests: [] }, 'ABC.1'),
    'X-Spam-Flag: NO\r\nX-Spam-Score: 0.0\r\n' +
      'X-Spam-Status: No, score=0.0 required=5.0 tests=none\r\nX-Postern-Id: ABC.1\r\n',
  )
  const tests = [
    { symbol: 'A', score: 7.25 },
    { symbol: 'B', score: -0.04 },
  ]
  assert.equal(
    spamHeaders({ tagged: true, score: 7.21, required: 5, tests }, 'ABC.1'),
    'X-Spam-Flag: YES\r\nX-Spam-Score: 7.2\r\n' +
      'X-Spam-Status: Yes, score=7.2 required=5.0 tests=A=7.3,B=0.0\r\nX-Postern-Id: ABC.1\r\n'.replace(
        'A=7.3',
        `A=${(7.25).toFixed(1)}`,
      ),
  )
})

test('many symbols are folded to lines of bounded length, and unfold to one list', () => {
  const tests = Array.from({ length: 60 }, (_, i) => ({ symbol: `SYMBOL_${'X'.repeat(i)}`, score: i / 10 }))
  const text = spamHeaders({ tagged: true, score: 177, required: 5, tests }, 'ABC.1')
  for (const line of text.split('\r\n')) assert.ok(line.length <= 100, line)
  const status = parseHeader(octets(text)).fields.find((f) => f.name === 'X-Spam-Status')
  const listed = status?.value
    .replace(/\r\n\t/g, '')
    .split('tests=')[1]
    ?.split(',')
  assert.deepEqual(
    listed,
    tests.map((t) => `${t.symbol}=${t.score.toFixed(1)}`),
  )
})

test('so many symbols that they would be a header of their own are cut', () => {
  const tests = Array.from({ length: 1000 }, (_, i) => ({ symbol: `S${i}`, score: 1 }))
  assert.equal(spamHeaders({ tagged: true, score: 9, required: 5, tests }, 'I').match(/S\d+=/g)?.length, 200)
})

function forged(raw: string): boolean {
  const [field] = parseHeader(octets(`${raw}\r\n`)).fields
  return field === undefined ? assert.fail(`no field: ${raw}`) : isForged(field, HOST)
}

for (const raw of [
  'X-Spam-Flag: NO',
  'x-spam-flag: NO',
  'X-SPAM-STATUS: No, score=-100',
  'X-Spam-Anything: x',
  'X-Spam-: x',
  'X-Spam: x',
  'X-Postern-Id: ABC',
  'X-POSTERN-whatever: x',
  'X-Spam-Flag : NO',
  'X-Spam-Flag\t: NO',
  // RFC 8601: the authserv-id, with comments, quotes, folds, letter case and a version
  'Authentication-Results: mx.example.org; spf=pass',
  'authentication-results: mx.example.org; spf=pass',
  'AUTHENTICATION-RESULTS : MX.Example.ORG; spf=pass',
  'Authentication-Results:mx.example.org;spf=pass',
  'Authentication-Results: mx.example.org',
  'Authentication-Results: mx.example.org 1; none',
  'Authentication-Results: mx.example.org\t1; none',
  'Authentication-Results: "mx.example.org"; none',
  'Authentication-Results: "mx\\.example.org"; none',
  'Authentication-Results: "MX.EXAMPLE.ORG" 1; none',
  'Authentication-Results: (comment) mx.example.org; none',
  'Authentication-Results: (a (nested) comment) mx.example.org; none',
  'Authentication-Results: (a \\) quoted) mx.example.org; none',
  'Authentication-Results: (one)(two) "mx.example.org"(three); none',
  'Authentication-Results:\r\n mx.example.org; none',
  'Authentication-Results:\r\n\t(a\r\n comment)\r\n mx.example.org;\r\n none',
  'Authentication-Results: mx.example.org(comment); none',
  'Authentication-Results: mx.example.org\r\n ; none',
  'Authentication-Results: " mx.example.org "; none',
  // what no two readers read alike counts as a claim
  'Authentication-Results:',
  'Authentication-Results: ; none',
  'Authentication-Results: (never closed mx.example.org; none',
  'Authentication-Results: "never closed',
  'Authentication-Results: )mx.example.org; none',
  'Authentication-Results: \xa0mx.example.org; none',
  'Authentication-Results: mx.example.org\xa0; none',
  'Authentication-Results: mx.example.org/1; none',
  'Authentication-Results: mx.example.org=x; none',
  'Authentication-Results: mx.example.org,other.example.net; none',
  'Authentication-Results: mx.example.org.; none',
  'Authentication-Results: "mx.example.org"x; none',
  'Authentication-Results: m"x.example.org"; none',
]) {
  test(`forged: ${JSON.stringify(raw)}`, () => assert.equal(forged(raw), true))
}

for (const raw of [
  'Authentication-Results: other.example.net; spf=pass',
  'Authentication-Results: "other.example.net" 1; spf=pass',
  'Authentication-Results: (mx.example.org) other.example.net; spf=pass',
  'Authentication-Results: other.example.net; spf=pass reason="mx.example.org"',
  'Authentication-Results: xmx.example.org; none',
  'Authentication-Results: mx.example.org.example.net; none',
  'ARC-Authentication-Results: i=1; mx.example.org; spf=pass',
  'X-Authentication-Results: mx.example.org; none',
  'Received: from mx.example.org',
  'X-Spammer: x',
  'X-Posterns: x',
  'X-Mailer: x-spam-flag',
]) {
  test(`not forged: ${JSON.stringify(raw)}`, () => assert.equal(forged(raw), false))
}

test('our own name is compared in any letter case', () => {
  const [field] = parseHeader(octets('Authentication-Results: mx.example.org; none\r\n')).fields
  assert.equal(field && isForged(field, 'MX.Example.Org'), true)
})
