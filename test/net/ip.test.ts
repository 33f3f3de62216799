// Addresses and sets of networks: the fast look-up against the slow one of ipaddr.js, and what is no network at all.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import ipaddr from 'ipaddr.js'
import { canonicalAddress, clientKey, NetworkSet, networkDefect } from '../../src/net/ip.ts'

/** Every network in turn: what NetworkSet must agree with. */
function naiveHas(entries: readonly string[], address: string): boolean {
  const parsed = ipaddr.process(address)
  return entries.some((entry) => {
    const [range, bits] = ipaddr.parseCIDR(entry)
    return range.kind() === parsed.kind() && parsed.match([range, bits])
  })
}

// Few distinct octets, so that networks nest and addresses hit them.
const octet = fc.constantFrom(0, 1, 2, 127, 128, 254, 255)
const ipv4 = fc.tuple(octet, octet, octet, octet).map((parts) => parts.join('.'))
const group = fc.constantFrom(0, 1, 0x7fff, 0x8000, 0xfffe, 0xffff)
// The first group keeps away from the IPv4-mapped range, of which ipaddr.js knows two readings.
const ipv6 = fc
  .tuple(fc.constantFrom(0x2001, 0x2002, 0xfe80), fc.array(group, { minLength: 7, maxLength: 7 }))
  .map(([first, rest]) => [first, ...rest].map((part) => part.toString(16)).join(':'))
const network = fc.oneof(
  fc.tuple(ipv4, fc.nat(32)).map(([address, bits]) => `${address}/${bits}`),
  fc.tuple(ipv6, fc.nat(128)).map(([address, bits]) => `${address}/${bits}`),
)

test('the same answer as trying every network', () => {
  const address = fc.oneof(ipv4, ipv6)
  fc.assert(
    fc.property(fc.array(network, { maxLength: 12 }), fc.array(address, { maxLength: 12 }), (entries, addresses) => {
      const set = new NetworkSet(entries)
      for (const one of addresses) assert.equal(set.has(one), naiveHas(entries, one), `${one} in ${entries.join()}`)
    }),
    { numRuns: 400 },
  )
})

test('the entry that is named holds the address, and stands in the list', () => {
  fc.assert(
    fc.property(fc.array(network, { minLength: 1, maxLength: 12 }), fc.oneof(ipv4, ipv6), (entries, address) => {
      const found = new NetworkSet(entries).find(address)
      if (found === undefined) return
      assert.ok(entries.includes(found))
      assert.ok(naiveHas([found], address))
    }),
  )
})

test('borders of a network', () => {
  const set = new NetworkSet(['192.0.2.64/26', '198.51.100.7', '2001:db8::/33'])
  for (const inside of ['192.0.2.64', '192.0.2.127', '198.51.100.7', '2001:db8::', '2001:db8:7fff:ffff::1']) {
    assert.equal(set.has(inside), true, inside)
  }
  for (const outside of ['192.0.2.63', '192.0.2.128', '198.51.100.6', '198.51.100.8', '2001:db8:8000::', '::1']) {
    assert.equal(set.has(outside), false, outside)
  }
})

test('bits beyond the prefix do not matter', () => {
  assert.equal(new NetworkSet(['192.0.2.77/24']).find('192.0.2.1'), '192.0.2.77/24')
})

test('of nested networks the outer one is named, whatever the order', () => {
  for (const entries of [
    ['10.0.0.0/8', '10.1.0.0/16', '10.1.2.3'],
    ['10.1.2.3', '10.1.0.0/16', '10.0.0.0/8'],
  ]) {
    const set = new NetworkSet(entries)
    assert.deepEqual([set.size, set.find('10.1.2.3'), set.find('10.2.0.0')], [1, '10.0.0.0/8', '10.0.0.0/8'])
  }
  assert.equal(new NetworkSet(['10.0.0.0/8', '10.0.0.0/8', '10.9.9.9/8']).size, 1)
})

test('an IPv4-mapped IPv6 address is the IPv4 address, on both sides', () => {
  const set = new NetworkSet(['192.0.2.0/24', '::ffff:198.51.100.0/120', '::ffff:203.0.113.9'])
  assert.equal(set.has('::ffff:192.0.2.9'), true)
  assert.equal(set.has('198.51.100.9'), true)
  assert.equal(set.has('::ffff:c633:6409'), true)
  assert.equal(set.has('203.0.113.9'), true)
  assert.equal(set.has('203.0.113.8'), false)
})

test('/0 is the whole family, and only that', () => {
  const four = new NetworkSet(['0.0.0.0/0'])
  assert.deepEqual([four.has('255.255.255.255'), four.has('0.0.0.0'), four.has('2001:db8::1')], [true, true, false])
  const six = new NetworkSet(['::/0'])
  assert.deepEqual([six.has('::'), six.has('ffff::'), six.has('192.0.2.1')], [true, true, false])
})

test('an empty set holds nothing, and what is no address is in no set', () => {
  assert.equal(new NetworkSet([]).has('192.0.2.1'), false)
  const all = new NetworkSet(['0.0.0.0/0', '::/0'])
  for (const text of ['', 'localhost', '192.0.2', '0xc0000201', '3221225985', '192.0.2.1/32', ' 192.0.2.1']) {
    assert.equal(all.find(text), undefined, text)
  }
})

for (const entry of ['192.0.2.1', '192.0.2.0/24', '0.0.0.0/0', '255.255.255.255/32', '::', '2001:db8::/128', '::/0']) {
  test(`a network: ${entry}`, () => assert.equal(networkDefect(entry), undefined))
}

for (const entry of [
  '',
  'example.org',
  'localhost',
  '192.0.2',
  '192.0.2.256',
  '010.0.0.1',
  '0x7f.1',
  '2130706433',
  '192.0.2.0/33',
  '192.0.2.0/-1',
  '192.0.2.0/',
  '192.0.2.0/ 8',
  '192.0.2.0/08',
  '192.0.2.0/+8',
  '192.0.2.0/1e1',
  '192.0.2.0/0x8',
  '192.0.2.0/8.0',
  '192.0.2.0/24/24',
  '192.0.2.0/255.255.255.0',
  '192.0.2.1 ',
  '192.0.2.1:25',
  '2001:db8::/129',
  '2001:db8:::/32',
  '[2001:db8::1]',
  '::ffff:192.0.2.0/95',
  'fe80::1%eth0',
  'fe80::1%eth0/64',
]) {
  test(`no network: '${entry}'`, () => {
    assert.equal(typeof networkDefect(entry), 'string')
    assert.throws(() => new NetworkSet(['192.0.2.1', entry]))
  })
}

for (const [text, canonical] of [
  ['192.0.2.1', '192.0.2.1'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['::FFFF:C000:0201', '192.0.2.1'],
  ['2001:DB8:0:0::1', '2001:db8::1'],
  ['fe80::1%eth0', 'fe80::1'],
  ['::1', '::1'],
  ['', undefined],
  ['010.0.0.1', undefined],
  ['0x7f.1', undefined],
  ['localhost', undefined],
  ['192.0.2.1 ', undefined],
] as const) {
  test(`the address '${text}' is ${canonical ?? 'none'}`, () => assert.equal(canonicalAddress(text), canonical))
}

test('one client is an IPv4 address or a /64 of IPv6', () => {
  assert.equal(clientKey('192.0.2.1'), '192.0.2.1')
  assert.equal(clientKey('2001:db8:1:2:3:4:5:6'), clientKey('2001:db8:1:2::'))
  assert.notEqual(clientKey('2001:db8:1:2::'), clientKey('2001:db8:1:3::'))
  assert.notEqual(clientKey('192.0.2.1'), clientKey('192.0.2.2'))
})
