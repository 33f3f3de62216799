// P5: who may send to whom. Empty lists refuse all.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NetworkSet } from '../../src/net/ip.ts'
import { isExempt, RELAYING_DENIED, type RelayPolicy, relayRefusal } from '../../src/proxy/relay.ts'
import { type Address, parsePath } from '../../src/smtp/address.ts'

function address(text: string): Address {
  const parsed = parsePath(`<${text}>`, true)
  if (parsed.kind === 'error' || parsed.address === null) return assert.fail(`no address: ${text}`)
  return parsed.address
}

function policy({ domains = ['example.org'], relay = [] as string[], exempt = [] as string[] } = {}): RelayPolicy {
  return { domains: new Set(domains), relayNetworks: new NetworkSet(relay), exempt: new Set(exempt) }
}

const STRANGER = '198.51.100.7'

function refusal(of: RelayPolicy, to: string, client = STRANGER): string {
  const reply = relayRefusal(of, address(to), client)
  return reply === undefined ? 'taken' : `${reply.code} ${reply.enhanced?.join('.')}`
}

for (const [to, expected] of [
  ['user@example.org', 'taken'],
  ['user@EXAMPLE.ORG', 'taken'],
  ['postmaster', 'taken'],
  ['PostMaster', 'taken'],
  ['user@example.net', '550 7.1'],
  ['user@sub.example.org', '550 7.1'],
  ['user@example.org.example.net', '550 7.1'],
  ['user@xexample.org', '550 7.1'],
  ['user@[192.0.2.25]', '550 7.1'],
  ['user@[IPv6:2001:db8::1]', '550 7.1'],
  // routes within our own domain
  ['user%example.net@example.org', '550 7.1'],
  ['example.net!user@example.org', '550 7.1'],
  ['"user@example.net"@example.org', '550 7.1'],
  ['"user\\@example.net"@example.org', '550 7.1'],
] as const) {
  test(`${to}: ${expected}`, () => assert.equal(refusal(policy(), to), expected))
}

test('a domain is compared in its canonical form', () => {
  const of = policy({ domains: ['xn--bcher-kva.example'] })
  assert.equal(refusal(of, 'user@bücher.example'), 'taken')
  assert.equal(refusal(of, 'user@BÜCHER.example'), 'taken')
  assert.equal(refusal(of, 'user@xn--bcher-kva.example'), 'taken')
  assert.equal(refusal(of, 'user@bucher.example'), '550 7.1')
})

test('empty lists refuse all, postmaster included', () => {
  const of = policy({ domains: [] })
  for (const to of ['user@example.org', 'postmaster', 'postmaster@example.org']) {
    assert.equal(refusal(of, to), '550 7.1', to)
  }
})

test('a client of relay_networks may send to anywhere, and along no route', () => {
  const of = policy({ relay: ['192.0.2.0/24'] })
  assert.equal(refusal(of, 'user@example.net', '192.0.2.9'), 'taken')
  assert.equal(refusal(of, 'user@example.net', '::ffff:192.0.2.9'), 'taken')
  assert.equal(refusal(of, 'user@example.net', '192.0.3.9'), '550 7.1')
  assert.equal(refusal(of, 'user%example.net@example.com', '192.0.2.9'), '550 7.1')
})

test('a refusal to relay is known as such: it counts as an error of the session', () => {
  assert.equal(relayRefusal(policy(), address('user@example.net'), STRANGER), RELAYING_DENIED)
})

test('who is exempt', () => {
  const of = policy({ exempt: ['postmaster@', 'help@example.org'] })
  for (const [to, expected] of [
    ['postmaster@example.org', true],
    ['POSTMASTER@example.org', true],
    ['postmaster', true],
    ['"postmaster"@example.org', true],
    ['help@example.org', true],
    ['postmaster@example.net', false],
    ['help@example.net', false],
    ['user@example.org', false],
    ['postmaster2@example.org', false],
  ] as const) {
    assert.equal(isExempt(of, address(to)), expected, to)
  }
})

test('an exempt whole address does not make another domain ours', () => {
  assert.equal(isExempt(policy({ exempt: ['help@example.net'] }), address('help@example.net')), false)
})

test('without exempt recipients nobody is', () => assert.equal(isExempt(policy(), address('postmaster')), false))
