// XCLIENT and XFORWARD: attributes in and out. Values come from strangers, whoever brings them.
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { canonicalAddress } from '../../src/net/ip.ts'
import {
  type ClientAttributes,
  parseAttributes,
  toXtext,
  XCLIENT_ATTRIBUTES,
  XFORWARD_ATTRIBUTES,
  xclientArgument,
} from '../../src/smtp/xclient.ts'

function parsed(argument: string, known: readonly string[] = XCLIENT_ATTRIBUTES): ClientAttributes {
  const result = parseAttributes(argument, known)
  assert.ok(result.kind === 'ok', `${argument}: ${JSON.stringify(result)}`)
  return result.attributes
}

function refusal(argument: string, known: readonly string[] = XCLIENT_ATTRIBUTES): string {
  const result = parseAttributes(argument, known)
  assert.ok(result.kind === 'error', `${argument}: ${JSON.stringify(result)}`)
  return result.why
}

suite('parseAttributes', () => {
  const good: readonly [argument: string, attributes: ClientAttributes][] = [
    ['ADDR=192.0.2.1', { addr: '192.0.2.1' }],
    ['addr=192.0.2.1', { addr: '192.0.2.1' }],
    ['ADDR=IPV6:2001:DB8::1', { addr: '2001:db8::1' }],
    ['ADDR=ipv6:2001:db8:0::1', { addr: '2001:db8::1' }],
    ['ADDR=2001:db8::1', { addr: '2001:db8::1' }],
    ['ADDR=IPV6:::ffff:192.0.2.1', { addr: '192.0.2.1' }],
    ['NAME=mail.example.net', { name: 'mail.example.net' }],
    ['NAME=_dmarc.exa_mple.net', { name: '_dmarc.exa_mple.net' }],
    ['PORT=0', { port: 0 }],
    ['PORT=65535', { port: 65535 }],
    ['PROTO=SMTP', { proto: 'SMTP' }],
    ['PROTO=esmtp', { proto: 'ESMTP' }],
    ['HELO=client.example.net', { helo: 'client.example.net' }],
    ['HELO=[192.0.2.1]', { helo: '[192.0.2.1]' }],
    ['HELO=a+20b', { helo: 'a b' }],
    ['HELO=a+2Bb+3Dc+2bd', { helo: 'a+b=c+d' }],
    ['HELO=+2BAZ', { helo: '+AZ' }], // decoded once
    ['HELO=+5BUNAVAILABLE]', { helo: undefined }],
    ['LOGIN=jim@example.org', { login: 'jim@example.org' }],
    [`LOGIN=${'+41'.repeat(255)}`, { login: 'A'.repeat(255) }],
    ['ADDR=[UNAVAILABLE]', { addr: undefined }],
    ['ADDR=[TEMPUNAVAIL] NAME=[unavailable] PORT=[UNAVAILABLE]', { addr: undefined, name: undefined, port: undefined }],
    ['PROTO=[UNAVAILABLE] HELO=[UNAVAILABLE]', { proto: undefined, helo: undefined }],
    [
      'NAME=a.example \t ADDR=192.0.2.1 PORT=25  PROTO=ESMTP HELO=h LOGIN=l',
      { name: 'a.example', addr: '192.0.2.1', port: 25, proto: 'ESMTP', helo: 'h', login: 'l' },
    ],
  ]
  for (const [argument, attributes] of good) {
    test(argument.slice(0, 60), () => assert.deepEqual(parsed(argument), attributes))
  }

  const bad: readonly [argument: string, why: RegExp][] = [
    ['', /unknown attribute/],
    [' ADDR=192.0.2.1', /unknown attribute/],
    ['ADDR', /unknown attribute/],
    ['=192.0.2.1', /unknown attribute/],
    ['ADDR = 192.0.2.1', /unknown attribute/],
    ['FOO=bar', /unknown attribute/],
    ['DESTADDR=192.0.2.1', /unknown attribute/],
    ['__proto__=x', /unknown attribute/],
    ['ADDR=192.0.2.1 FOO=bar', /unknown attribute/],
    ['ADDR=192.0.2.1,PORT=25', /encoding of ADDR/],
    ['ADDR=192.0.2.1 ADDR=192.0.2.1', /ADDR given twice/],
    ['ADDR=192.0.2.1 addr=192.0.2.2', /ADDR given twice/],
    ['HELO=[UNAVAILABLE] HELO=a', /HELO given twice/],
    ['ADDR=', /unknown attribute/], // Postfix: "attribute=value expected"
    ['HELO=', /unknown attribute/],
    ['ADDR=192.0.2.256', /bad ADDR/],
    ['ADDR=192.0.2', /bad ADDR/],
    ['ADDR=192.0.02.1', /bad ADDR/],
    ['ADDR=[192.0.2.1]', /bad ADDR/],
    ['ADDR=IPV6:', /bad ADDR/],
    ['ADDR=IPV6:2001:db8', /bad ADDR/],
    ['ADDR=IPV6:IPV6:::1', /bad ADDR/],
    ['ADDR=mail.example.net', /bad ADDR/],
    ['PORT=65536', /bad PORT/],
    ['PORT=-1', /bad PORT/],
    ['PORT=smtp', /bad PORT/],
    ['PORT=0x19', /bad PORT/],
    ['PORT=+2B1', /bad PORT/],
    ['PORT=000000025', /bad PORT/],
    ['PROTO=LMTP', /bad PROTO/],
    ['PROTO=ESMTPS', /bad PROTO/],
    ['NAME=a+20b', /bad NAME/],
    ['NAME=-a.example', /bad NAME/],
    ['NAME=a.example.', /bad NAME/],
    ['NAME=[192.0.2.1]', /bad NAME/],
    ['NAME=<script>', /bad NAME/],
    [`NAME=${'a'.repeat(254)}`, /bad NAME/],
    ['HELO=a+0D+0AMAIL', /encoding of HELO/], // controls, once decoded
    ['HELO=a+0aRSET', /encoding of HELO/],
    ['HELO=+00', /encoding of HELO/],
    ['HELO=+09', /encoding of HELO/],
    ['HELO=+7F', /encoding of HELO/],
    ['HELO=+C3+A4', /encoding of HELO/],
    ['HELO=+FF', /encoding of HELO/],
    ['HELO=\xe4', /encoding of HELO/],
    ['HELO=+', /encoding of HELO/],
    ['HELO=+4', /encoding of HELO/],
    ['HELO=+4G', /encoding of HELO/],
    ['HELO=a=b', /encoding of HELO/],
    [`HELO=${'a'.repeat(256)}`, /encoding of HELO/],
    [`HELO=${'+41'.repeat(256)}`, /encoding of HELO/],
  ]
  for (const [argument, why] of bad) {
    test(`refused: ${JSON.stringify(argument.slice(0, 60))}`, () => assert.match(refusal(argument), why))
  }

  test('XFORWARD: IDENT and SOURCE are read and mean nothing; LOGIN is not one of its attributes', () => {
    const argument = 'NAME=a.example ADDR=192.0.2.1 PORT=1 PROTO=SMTP HELO=h IDENT=4F0x SOURCE=REMOTE'
    const attributes = { name: 'a.example', addr: '192.0.2.1', port: 1, proto: 'SMTP', helo: 'h' }
    assert.deepEqual(parsed(argument, XFORWARD_ATTRIBUTES), attributes)
    assert.deepEqual(parsed('IDENT=[UNAVAILABLE] SOURCE=[UNAVAILABLE]', XFORWARD_ATTRIBUTES), {})
    assert.match(refusal('LOGIN=jim', XFORWARD_ATTRIBUTES), /unknown attribute/)
    assert.match(refusal('SOURCE=REMOTE'), /unknown attribute/)
  })

  test('whatever comes, an answer; and no value with a control in it', () => {
    const piece = fc.constantFrom(
      'ADDR=',
      'HELO=',
      'NAME=',
      'LOGIN=',
      '+0',
      '+0D',
      '+0A',
      '+2',
      'B',
      'a',
      ' ',
      '=',
      '[',
    )
    fc.assert(
      fc.property(fc.array(fc.oneof(piece, fc.string())), (pieces) => {
        const result = parseAttributes(pieces.join(''), XCLIENT_ATTRIBUTES)
        if (result.kind === 'ok') assert.match(Object.values(result.attributes).join(''), /^[ -~]*$/)
      }),
    )
  })
})

suite('xclientArgument', () => {
  const all = new Set<string>(XCLIENT_ATTRIBUTES)
  const client: ClientAttributes = {
    name: 'mail.example.net',
    addr: '192.0.2.1',
    port: 2525,
    proto: 'ESMTP',
    helo: 'client.example.net',
    login: 'jim',
  }

  test('every attribute that is announced, ADDR last', () => {
    assert.equal(
      xclientArgument(client, all),
      'NAME=mail.example.net PORT=2525 PROTO=ESMTP HELO=client.example.net LOGIN=jim ADDR=192.0.2.1',
    )
  })

  test('what is missing is said to be so: it would survive from the client before', () => {
    const nothing = ['NAME', 'PORT', 'PROTO', 'HELO', 'LOGIN', 'ADDR'].map((key) => `${key}=[UNAVAILABLE]`)
    assert.equal(xclientArgument({}, all), nothing.join(' '))
    assert.equal(
      xclientArgument({ addr: '192.0.2.1', port: 0 }, all),
      'NAME=[UNAVAILABLE] PORT=0 PROTO=[UNAVAILABLE] HELO=[UNAVAILABLE] LOGIN=[UNAVAILABLE] ADDR=192.0.2.1',
    )
  })

  test('nothing that is not announced', () => {
    assert.equal(xclientArgument(client, new Set(['ADDR', 'NAME'])), 'NAME=mail.example.net ADDR=192.0.2.1')
    assert.equal(xclientArgument({}, new Set(['ADDR', 'DESTADDR', 'FOO'])), 'ADDR=[UNAVAILABLE]')
    assert.equal(xclientArgument(client, new Set()), '')
  })

  test('an IPv6 address has its prefix', () => {
    assert.equal(xclientArgument({ addr: '2001:db8::1' }, new Set(['ADDR'])), 'ADDR=IPV6:2001:db8::1')
  })

  const helos: readonly [helo: string, passed: string][] = [
    ['client.example.net', 'client.example.net'],
    ['[192.0.2.1]', '[192.0.2.1]'],
    ['[IPv6:2001:db8::1]', '[IPv6:2001:db8::1]'],
    ['WIN_PC', 'WIN_PC'],
    ['[300.0.2.1]', '[UNAVAILABLE]'],
    ['[UNAVAILABLE]', '[UNAVAILABLE]'],
    ['a.example.', '[UNAVAILABLE]'],
    ['localhost ADDR=127.0.0.1', '[UNAVAILABLE]'],
    ['a\r\nRSET', '[UNAVAILABLE]'],
    ['a.example\n', '[UNAVAILABLE]'],
    ['', '[UNAVAILABLE]'],
    ['b\xfccher.example', '[UNAVAILABLE]'],
    ['a'.repeat(254), '[UNAVAILABLE]'],
  ]
  for (const [name, passed] of helos) {
    test(`HELO ${JSON.stringify(name.slice(0, 40))} is passed on as ${passed}`, () => {
      assert.equal(xclientArgument({ helo: name }, new Set(['HELO'])), `HELO=${passed}`)
    })
  }

  // CVE-2026-28753: what a PTR record holds is up to whoever owns the address.
  for (const name of ['a b', 'a\r\nMAIL FROM:<>', 'a\0', 'a=b', '+0D+0A', '[192.0.2.1]', "';--", '-a.example', '']) {
    test(`a PTR name ${JSON.stringify(name)} is not passed on`, () => {
      assert.equal(xclientArgument({ name }, new Set(['NAME'])), 'NAME=[UNAVAILABLE]')
    })
  }

  test('a login is encoded, whatever is in it, and cut', () => {
    const login = (text: string) => xclientArgument({ login: text }, new Set(['LOGIN']))
    assert.equal(login('a b+c=d\r\n\0'), 'LOGIN=a+20b+2Bc+3Dd+0D+0A+00')
    assert.equal(login('j\xf6rg'), 'LOGIN=j+C3+B6rg')
    assert.equal(login(''), 'LOGIN=[UNAVAILABLE]')
    assert.equal(login('x'.repeat(300)), `LOGIN=${'x'.repeat(255)}`)
  })

  const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?$/)
  const name = fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join('.'))
  const known: fc.Arbitrary<ClientAttributes> = fc.record({
    name: fc.option(name, { nil: undefined }),
    addr: fc.option(
      fc.oneof(fc.ipV4(), fc.ipV6()).map((text) => canonicalAddress(text)),
      { nil: undefined },
    ),
    port: fc.option(fc.nat(65_535), { nil: undefined }),
    proto: fc.option(fc.constantFrom('SMTP' as const, 'ESMTP' as const), { nil: undefined }),
    helo: fc.option(name, { nil: undefined }),
    login: fc.option(fc.stringMatching(/^[ -~]{1,40}$/), { nil: undefined }),
  })

  test('what is built is what is read', () => {
    fc.assert(
      fc.property(known, (attributes) => {
        assert.deepEqual(parsed(xclientArgument(attributes, all)), { ...attributes })
      }),
    )
  })

  test('whatever the names are, it is one line of printable words that parses', () => {
    const strange = fc.record({ name: fc.string(), helo: fc.string(), login: fc.string() })
    fc.assert(
      fc.property(strange, (attributes) => {
        const argument = xclientArgument(attributes, all)
        assert.match(argument, /^(?:[A-Z]+=[!-~]+(?: |$)){6}$/)
      }),
    )
  })
})

test('xtext: printable ASCII but + and = stays as it is', () => {
  for (let code = 0; code < 128; code++) {
    const c = String.fromCharCode(code)
    const plain = code > 32 && code < 127 && c !== '+' && c !== '='
    assert.equal(toXtext(c), plain ? c : `+${code.toString(16).toUpperCase().padStart(2, '0')}`)
  }
})
