// The PROXY protocol: what is taken, what is not, and that what is built is what is read.
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { canonicalAddress } from '../../src/net/ip.ts'
import { buildProxyHeader, localProxyHeader, type ProxyHeader, parseProxyHeader } from '../../src/smtp/proxy-header.ts'
import { octets } from '../support/splits.ts'

function proxied(address: string, port: number, length: number): ProxyHeader {
  return { kind: 'proxied', source: { address, port }, length }
}

function isMalformed(bytes: Buffer): void {
  const header = parseProxyHeader(bytes)
  assert.equal(header.kind, 'malformed', JSON.stringify(header))
}

/** Every beginning of a good header waits for more; with more behind it, the header ends where it ended before. */
function assertFramed(header: Buffer, want: ProxyHeader): void {
  for (let cut = 0; cut < header.length; cut++) {
    assert.deepEqual(parseProxyHeader(header.subarray(0, cut)), { kind: 'incomplete' }, `cut at ${cut}`)
  }
  for (const behind of ['', 'EHLO client.example.net\r\n', '\r\n', 'PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n', '\0']) {
    assert.deepEqual(parseProxyHeader(Buffer.concat([header, octets(behind)])), want, JSON.stringify(behind))
  }
}

suite('version 1', () => {
  const LONGEST = `PROXY TCP6 ${'ffff:'.repeat(7)}ffff ${'ffff:'.repeat(7)}ffff 65535 65535\r\n`
  const good: readonly [line: string, address: string, port: number][] = [
    ['PROXY TCP4 192.0.2.1 198.51.100.2 56324 25', '192.0.2.1', 56324],
    ['PROXY TCP4 255.255.255.255 0.0.0.0 65535 0', '255.255.255.255', 65535],
    ['PROXY TCP4 192.0.2.1 198.51.100.2 0 25', '192.0.2.1', 0],
    ['PROXY TCP6 2001:db8::1 2001:db8::2 4000 25', '2001:db8::1', 4000],
    ['PROXY TCP6 2001:0DB8:0:0:0:0:0:1 ::1 4000 25', '2001:db8::1', 4000],
    ['PROXY TCP6 ::ffff:192.0.2.1 ::1 4000 25', '192.0.2.1', 4000],
    [LONGEST.trimEnd(), 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 65535],
  ]
  for (const [line, address, port] of good) {
    test(line, () => assertFramed(octets(`${line}\r\n`), proxied(address, port, line.length + 2)))
  }

  const unknown = ['PROXY UNKNOWN', 'PROXY UNKNOWN 192.0.2.1 198.51.100.2 1 25', 'PROXY UNKNOWN what ever']
  for (const line of unknown) {
    test(`${line}: the address of the connection counts`, () => {
      assertFramed(octets(`${line}\r\n`), { kind: 'local', length: line.length + 2 })
    })
  }

  test('107 octets are a header, 108 are none, and without an end they are given up at the 107th', () => {
    // 5.2.1: UNKNOWN may be followed by anything.
    const line = (length: number) => octets(`PROXY UNKNOWN ${'x'.repeat(length - 16)}\r\n`)
    assertFramed(line(107), { kind: 'local', length: 107 })
    isMalformed(line(108))
    assert.equal(parseProxyHeader(line(200).subarray(0, 106)).kind, 'incomplete')
    isMalformed(line(200).subarray(0, 107))
    assert.equal(LONGEST.length, 104)
  })

  const malformed: readonly string[] = [
    'PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\n', // LF only
    'PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\n\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\r\r\n',
    'PROXY UNKNOWN\n',
    'PROXY\r\n',
    'PROXY \r\n',
    'PROXY TCP4\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 56324 25 25\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 56324 25 \r\n',
    'PROXY TCP4  192.0.2.1 198.51.100.2 56324 25\r\n', // double blanks
    'PROXY  TCP4 192.0.2.1 198.51.100.2 56324 25\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2  56324 25\r\n',
    'PROXY TCP4 192.0.2.1\t198.51.100.2 56324 25\r\n',
    ' PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 056324 25\r\n', // leading zeros
    'PROXY TCP4 192.0.2.1 198.51.100.2 04000 25\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 4000 025\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 00 25\r\n',
    'PROXY TCP4 192.0.02.1 198.51.100.2 4000 25\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.002 4000 25\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 65536 25\r\n', // ports
    'PROXY TCP4 192.0.2.1 198.51.100.2 4000 65536\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 -1 25\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 +4000 25\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 0x10 25\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 1e3 25\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 4000 smtp\r\n',
    'PROXY TCP6 192.0.2.1 198.51.100.2 4000 25\r\n', // the family does not match
    'PROXY TCP4 2001:db8::1 2001:db8::2 4000 25\r\n',
    'PROXY TCP4 192.0.2.1 2001:db8::2 4000 25\r\n',
    'PROXY TCP6 2001:db8::1 198.51.100.2 4000 25\r\n',
    'PROXY TCP4 192.0.2 198.51.100.2 4000 25\r\n', // addresses
    'PROXY TCP4 192.0.2.256 198.51.100.2 4000 25\r\n',
    'PROXY TCP4 0xc0.0.2.1 198.51.100.2 4000 25\r\n',
    'PROXY TCP6 2001:db8:::1 ::1 4000 25\r\n',
    'PROXY TCP6 [2001:db8::1] ::1 4000 25\r\n',
    'PROXY TCP6 fe80::1%eth0 ::1 4000 25\r\n',
    'PROXY TCP6 2001:db8::1 fe80::1%eth0 4000 25\r\n',
    'PROXY TCP5 192.0.2.1 198.51.100.2 4000 25\r\n',
    'PROXY UDP4 192.0.2.1 198.51.100.2 4000 25\r\n',
    'PROXY tcp4 192.0.2.1 198.51.100.2 4000 25\r\n',
    'PROXY unknown\r\n',
    'PROXY UNKNOWNX\r\n',
    'proxy TCP4 192.0.2.1 198.51.100.2 4000 25\r\n',
    'PROXY TCP4 192.0.2.1\0 198.51.100.2 4000 25\r\n',
    'EHLO client.example.net\r\n',
    'E',
    'PROXx',
    '\n',
    '\0',
  ]
  for (const line of malformed) test(`malformed: ${JSON.stringify(line)}`, () => isMalformed(octets(line)))
})

const SIGNATURE = '\r\n\r\n\0\r\nQUIT\n'
const V4 = '\xc0\x00\x02\x01\xc6\x33\x64\x02\x10\x00\x00\x19' // 192.0.2.1 198.51.100.2 4096 25
const V6 = `\x20\x01\x0d\xb8${'\0'.repeat(11)}\x01\x20\x01\x0d\xb8${'\0'.repeat(11)}\x02\x10\x00\x00\x19`

interface V2 {
  readonly command?: number
  readonly family?: number
  readonly length?: number
  readonly body?: string
}

function v2({ command = 0x21, family = 0x11, body = V4, length = body.length }: V2): Buffer {
  return octets(`${SIGNATURE}${String.fromCharCode(command, family, length >> 8, length & 0xff)}${body}`)
}

suite('version 2', () => {
  const tlv = `\x04\x00\x03abc\x20\x00\x05\x01\0\0\0\0`
  const v6 = `\x2a${'\0'.repeat(14)}\x07${V6.slice(16)}`
  const good: readonly [title: string, header: Buffer, want: ProxyHeader][] = [
    ['IPv4', v2({}), proxied('192.0.2.1', 4096, 28)],
    ['IPv6', v2({ family: 0x21, body: V6 }), proxied('2001:db8::1', 4096, 52)],
    ['a short IPv6 address', v2({ family: 0x21, body: v6 }), proxied('2a00::7', 4096, 52)],
    [
      'IPv4 written as IPv6',
      v2({ family: 0x21, body: `${'\0'.repeat(10)}\xff\xff\xc0\x00\x02\x01${V6.slice(16)}` }),
      proxied('192.0.2.1', 4096, 52),
    ],
    ['TLVs are skipped', v2({ body: V4 + tlv }), proxied('192.0.2.1', 4096, 28 + tlv.length)],
    ['TLVs that are none are skipped too', v2({ body: `${V4}\x04\xff\xffx` }), proxied('192.0.2.1', 4096, 32)],
    ['TLVs behind IPv6', v2({ family: 0x21, body: V6 + tlv }), proxied('2001:db8::1', 4096, 52 + tlv.length)],
    ['as long as may be', v2({ body: V4 + 'x'.repeat(2036) }), proxied('192.0.2.1', 4096, 16 + 2048)],
    ['LOCAL', v2({ command: 0x20, family: 0, body: '' }), { kind: 'local', length: 16 }],
    ['LOCAL with addresses', v2({ command: 0x20 }), { kind: 'local', length: 28 }],
    ['LOCAL of an unknown family', v2({ command: 0x20, family: 0xff, body: 'x' }), { kind: 'local', length: 17 }],
    ['no family', v2({ family: 0, body: '' }), { kind: 'local', length: 16 }],
    ['no family, and TLVs', v2({ family: 0, body: tlv }), { kind: 'local', length: 16 + tlv.length }],
  ]
  for (const [title, header, want] of good) test(title, () => assertFramed(header, want))

  const malformed: readonly [title: string, header: Buffer][] = [
    ['version 1', v2({ command: 0x11 })],
    ['version 3', v2({ command: 0x31 })],
    ['an unknown command', v2({ command: 0x22 })],
    ['too short for IPv4', v2({ body: V4.slice(1) })],
    ['too short for IPv6', v2({ family: 0x21, body: V6.slice(1) })],
    ['IPv6 with the addresses of IPv4', v2({ family: 0x21 })],
    ['no addresses at all', v2({ body: '' })],
    ['unix stream', v2({ family: 0x31, body: 'x'.repeat(216) })],
    ['unix datagram', v2({ family: 0x32, body: 'x'.repeat(216) })],
    ['UDP over IPv4', v2({ family: 0x12 })],
    ['UDP over IPv6', v2({ family: 0x22, body: V6 })],
    ['an unknown family', v2({ family: 0x41 })],
    ['a transport without a family', v2({ family: 0x01 })],
    ['longer than may be', v2({ body: 'x'.repeat(2049) })],
    ['longer than may be, known from its first octets', v2({ length: 0xffff }).subarray(0, 16)],
    ['LOCAL, longer than may be', v2({ command: 0x20, length: 2049 }).subarray(0, 16)],
  ]
  for (const [title, header] of malformed) test(`malformed: ${title}`, () => isMalformed(header))

  test('malformed: a signature with any octet changed, as soon as that octet is there', () => {
    for (let at = 1; at < SIGNATURE.length; at++) {
      const header = v2({})
      header[at] = (header[at] ?? 0) ^ 0x20
      isMalformed(header)
      isMalformed(header.subarray(0, at + 1))
    }
  })
})

const address = fc.oneof(fc.ipV4(), fc.ipV6()).map((text) => canonicalAddress(text) ?? assert.fail(text))
const end = fc.record({ address, port: fc.nat(65_535) }, { noNullPrototype: true })

test('what is built is what is read, for all addresses, with anything behind it', () => {
  fc.assert(
    fc.property(fc.constantFrom(1 as const, 2 as const), end, end, fc.uint8Array(), (version, from, to, behind) => {
      const header = buildProxyHeader(version, from, to)
      const want = { kind: 'proxied', source: from, length: header.length }
      assert.deepEqual(parseProxyHeader(Buffer.concat([header, behind])), want)
      assert.ok(version === 2 || header.length <= 107)
    }),
    { numRuns: 2000 },
  )
})

test('what is built, octet by octet', () => {
  const [four, six] = [
    { address: '192.0.2.1', port: 4096 },
    { address: '2001:db8::1', port: 4096 },
  ]
  const [ourFour, ourSix] = [
    { address: '198.51.100.2', port: 25 },
    { address: '2001:db8::2', port: 25 },
  ]
  const text = (from: typeof four, to: typeof four) => buildProxyHeader(1, from, to).toString('latin1')
  assert.equal(text(four, ourFour), 'PROXY TCP4 192.0.2.1 198.51.100.2 4096 25\r\n')
  assert.equal(text(six, ourSix), 'PROXY TCP6 2001:db8::1 2001:db8::2 4096 25\r\n')
  // One family for both ends.
  assert.equal(text(four, ourSix), 'PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 4096 25\r\n')
  assert.equal(text(six, ourFour), 'PROXY TCP6 2001:db8::1 ::ffff:198.51.100.2 4096 25\r\n')
  assert.deepEqual(buildProxyHeader(2, four, ourFour), v2({}))
  assert.deepEqual(buildProxyHeader(2, six, ourSix), v2({ family: 0x21, body: V6 }))
  assert.deepEqual(localProxyHeader(), v2({ command: 0x20, family: 0, body: '' }))
})

test('a connection of our own is read as nobody else’s', () => {
  assert.deepEqual(parseProxyHeader(localProxyHeader()), { kind: 'local', length: 16 })
})

test('whatever comes, it is read without an error, and a header is never longer than its bound', () => {
  const start = fc.constantFrom('', 'PROXY ', 'PROXY TCP4 192.0.2.1 ', SIGNATURE, `${SIGNATURE}\x21\x11\x00`)
  fc.assert(
    fc.property(start, fc.uint8Array({ maxLength: 120 }), (head, rest) => {
      const bytes = Buffer.concat([octets(head), rest])
      const header = parseProxyHeader(bytes)
      if ('length' in header) assert.ok(header.length <= bytes.length)
      if (header.kind === 'incomplete') assert.ok(bytes.length < 16 + 2048)
    }),
    { numRuns: 5000 },
  )
})
