import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import {
  type Address,
  addressText,
  localPartValue,
  type PathError,
  parseDomain,
  parseLiteral,
  parsePath,
} from '../../src/smtp/address.ts'

function address(text: string, utf8 = true): Address {
  const parsed = parsePath(`<${text}>`, utf8)
  assert.ok(parsed.kind === 'path' && parsed.address !== null, text)
  assert.equal(parsed.rest, '')
  return parsed.address
}

function errorOf(path: string, utf8 = false): PathError | undefined {
  const parsed = parsePath(path, utf8)
  return parsed.kind === 'error' ? parsed.error : undefined
}

suite('parsePath: what is taken', () => {
  const table: readonly [text: string, localPart: string, domain: string][] = [
    ['a@example.org', 'a', 'example.org'],
    ['First.Last+tag@EXAMPLE.Org', 'First.Last+tag', 'example.org'],
    ['user@localhost', 'user', 'localhost'],
    ["!#$&'*+-/=?^_`{|}~@example.org", "!#$&'*+-/=?^_`{|}~", 'example.org'],
    ['a..b@example.org', 'a..b', 'example.org'], // departs
    ['.a.@example.org', '.a.', 'example.org'], // departs
    ['SRS0=HHH=TT=example.net=user@example.org', 'SRS0=HHH=TT=example.net=user', 'example.org'],
    ['prvs=1234abcd=user@example.org', 'prvs=1234abcd=user', 'example.org'],
    ['a@mail_1.example.org', 'a', 'mail_1.example.org'],
    ['a@xn--bcher-kva.example', 'a', 'xn--bcher-kva.example'],
    ['a@[192.0.2.1]', 'a', '[192.0.2.1]'],
    ['a@[IPv6:2001:DB8::1]', 'a', '[IPv6:2001:db8::1]'],
    // A quoted local part is kept byte for byte.
    ['"a b"@example.net', '"a b"', 'example.net'],
    ['"a>b"@example.net', '"a>b"', 'example.net'],
    ['""@example.net', '""', 'example.net'],
    ['"a\\"b\\\\c"@example.net', '"a\\"b\\\\c"', 'example.net'],
    ['"a@b"@example.net', '"a@b"', 'example.net'],
    ['"<>,;:()[]"@example.net', '"<>,;:()[]"', 'example.net'],
  ]
  for (const [text, localPart, domain] of table) {
    test(text, () => {
      const seen = address(text, false)
      assert.equal(seen.localPart, localPart)
      assert.equal(seen.domain, domain)
      assert.equal(seen.utf8, false)
      assert.equal(addressText(seen), `${localPart}@${domain}`)
    })
  }

  test('the null path', () => {
    assert.deepEqual(parsePath('<>', false), { kind: 'path', address: null, rest: '' })
    assert.deepEqual(parsePath('<> SIZE=1', false), { kind: 'path', address: null, rest: ' SIZE=1' })
    assert.equal(addressText(null), '')
  })

  for (const name of ['postmaster', 'Postmaster', 'POSTMASTER']) {
    test(`bare <${name}> has no domain`, () => {
      assert.deepEqual(address(name), { localPart: name, domain: '', utf8: false, routing: false })
      assert.equal(addressText(address(name)), name)
    })
  }

  test('what follows the path is given back untouched', () => {
    for (const rest of [' SIZE=1', 'SIZE=1', '>', ' <b@example.org>', '  ']) {
      const parsed = parsePath(`<a@example.org>${rest}`, false)
      assert.equal(parsed.kind === 'path' && parsed.rest, rest)
    }
  })

  test('a local part over 64 octets, as VERP and SRS make them', () => {
    const local = `bounce-${'x'.repeat(150)}=example.net`
    assert.equal(address(`${local}@example.org`).localPart, local)
  })
})

suite('parsePath: what is refused', () => {
  const syntax = [
    ['no brackets', 'a@example.org'],
    ['no opening bracket', 'a@example.org>'],
    ['no closing bracket', '<a@example.org'],
    ['nothing', ''],
    ['a blank inside', '< a@example.org>'],
    ['a blank before the bracket', ' <a@example.org>'],
    ['a blank at the end', '<a@example.org >'],
    ['no domain', '<a>'],
    ['an empty domain', '<a@>'],
    ['two at-signs', '<a@b@example.org>'],
    ['two brackets', '<<a@example.org>>'],
    ['an unquoted blank', '<a b@example.org>'],
    ['an unquoted comma', '<a,b@example.org>'],
    ['an unquoted colon', '<a:b@example.org>'],
    ['an unquoted backslash', '<a\\b@example.org>'],
    ['a comment', '<a(b)@example.org>'],
    ['a quoted string that does not end', '<"a@example.org>'],
    ['text behind a quoted string', '<"a"b@example.org>'],
    ['a quote inside an atom', '<a"b"@example.org>'],
    ['a bare quoted postmaster', '<"postmaster">'],
    ['another bare name', '<root>'],
    ['NUL in the local part', '<a\0b@example.org>'],
    ['NUL in the domain', '<a@exa\0mple.org>'],
    ['a control', '<a\x01b@example.org>'],
    ['a quoted control', '<"a\x01b"@example.org>'],
    ['a quoted tab', '<"a\tb"@example.org>'],
    ['an escaped control', '<"a\\\x01b"@example.org>'],
    ['CR LF', '<"a\r\nb"@example.org>'],
    ['DEL', '<a\x7fb@example.org>'],
    ['a C1 control', '<a\x85b@example.org>'],
    ['a line separator', '<a\u2028b@example.org>'],
    ['a quoted line separator', '<"a\u2029b"@example.org>'],
    ['a dot at the end of the domain', '<a@example.org.>'],
    ['a dot at its start', '<a@.example.org>'],
    ['two dots in it', '<a@example..org>'],
    ['a hyphen at the start of a label', '<a@-example.org>'],
    ['a hyphen at the end of a label', '<a@example-.org>'],
    ['an address without brackets', '<a@192.0.2.1>'],
    ['an IPv6 address without brackets', '<a@2001:db8::1>'],
    ['a slash', '<a@example.org/x>'],
    ['a percent sign in the domain', '<a@example%2eorg>'],
    ['a port', '<a@example.org:25>'],
    ['a quoted domain', '<a@"example.org">'],
    ['a literal with text behind', '<a@[192.0.2.1]x>'],
    ['an empty literal', '<a@[]>'],
    ['an open literal', '<a@[192.0.2.1>'],
  ] as const
  for (const [title, path] of syntax) test(title, () => assert.equal(errorOf(path, true), 'syntax'))

  for (const path of ['<@relay.example.net:a@example.org>', '<@a,@b:c@example.org>', '<@a>']) {
    test(`source route ${path}`, () => assert.equal(errorOf(path), 'source-route'))
  }

  test('a path of 256 octets is taken, one of 257 is too long', () => {
    const domain = 'example.org'
    const local = (length: number): string => 'x'.repeat(length - domain.length - 3)
    assert.equal(errorOf(`<${local(256)}@${domain}>`), undefined)
    assert.equal(errorOf(`<${local(257)}@${domain}>`), 'too-long')
    assert.equal(errorOf(`<"${'é'.repeat(122)}"@example.org>`, true), 'too-long', 'octets count, not characters')
  })

  test('labels to 63 and names to 253 octets', () => {
    const label = 'x'.repeat(63)
    assert.equal(parseDomain(`${label}.org`), `${label}.org`)
    assert.equal(parseDomain(`${label}x.org`), undefined)
    const name = `${label}.${label}.${label}.${'x'.repeat(61)}`
    assert.equal(parseDomain(name)?.length, 253)
    assert.equal(parseDomain(`${name}x`), undefined)
  })
})

suite('routing characters', () => {
  const routed = [
    'victim%example.net@example.org',
    'example.net!victim@example.org',
    '"victim@example.net"@example.org',
    '"victim%example.net"@example.org',
    '"example.net!victim"@example.org',
    '"@example.net:victim"@example.org',
    '"a\\b"@example.org',
    '"a\\@b"@example.org',
  ]
  const plain = ['a@example.org', '"a b"@example.org', 'a+b=c@example.org', '"a:b"@example.org', 'a/b|c@example.org']
  for (const text of routed) test(`${text} is flagged`, () => assert.equal(address(text).routing, true))
  for (const text of plain) test(`${text} is not`, () => assert.equal(address(text).routing, false))
})

suite('beyond ASCII', () => {
  test('an address needs SMTPUTF8, in either part', () => {
    for (const path of ['<ü@example.org>', '<"ü"@example.org>', '<a@bücher.example>']) {
      assert.equal(errorOf(path, false), 'needs-smtputf8')
      assert.equal(errorOf(path, true), undefined)
    }
  })

  test('a local part is kept, a domain becomes A-labels', () => {
    const seen = address('Jörg@BÜCHER.example')
    assert.deepEqual(seen, { localPart: 'Jörg', domain: 'xn--bcher-kva.example', utf8: true, routing: false })
    assert.equal(address('a@BÜCHER.example').utf8, true)
  })

  const domains: readonly [text: string, ascii: string | undefined][] = [
    ['bücher.example', 'xn--bcher-kva.example'],
    ['BÜCHER.EXAMPLE', 'xn--bcher-kva.example'],
    ['bu\u0308cher.example', 'xn--bcher-kva.example'],
    ['例え。テスト', 'xn--r8jz45g.xn--zckzah'],
    ['ｅｘａｍｐｌｅ．ｏｒｇ', 'example.org'],
    ['faß.example', 'xn--fa-hia.example'],
    // What a URL parser would cut off, decode, drop or take for an address is no domain.
    ['bücher.example/evil', undefined],
    ['bücher.example?evil', undefined],
    ['bücher.example#evil', undefined],
    ['bücher.example\\evil', undefined],
    ['b%75cher.büch', undefined],
    ['büch%2eexample', undefined],
    ['bü\tcher.example', undefined],
    ['bü\ncher.example', undefined],
    ['bü cher.example', undefined],
    ['bücher..example', undefined],
    ['bücher.example.', undefined],
    ['bücher.example:25', undefined],
    ['１９２.0.2.1', undefined],
    ['０x7f.1', undefined],
    ['bü％2fcher.example', undefined],
    ['xn--bü.example', undefined],
    ['\u00ad', undefined],
  ]
  for (const [text, ascii] of domains) {
    test(JSON.stringify(text), () => assert.equal(parseDomain(text), ascii))
  }
})

suite('parseLiteral', () => {
  const good: readonly [text: string, literal: string][] = [
    ['[192.0.2.1]', '[192.0.2.1]'],
    ['[255.255.255.255]', '[255.255.255.255]'],
    ['[IPv6:2001:db8::1]', '[IPv6:2001:db8::1]'],
    ['[ipv6:2001:DB8::A]', '[IPv6:2001:db8::a]'],
    ['[IPv6:::1]', '[IPv6:::1]'],
    ['[IPv6:::ffff:192.0.2.1]', '[IPv6:::ffff:192.0.2.1]'],
  ]
  for (const [text, literal] of good) test(text, () => assert.equal(parseLiteral(text), literal))

  const bad = [
    ...['[]', '[192.0.2]', '[192.0.2.256]', '[192.0.2.1.1]', '[192.0.2.01]', '[0xc0.0.2.1]', '[3221225985]'],
    ...['[192.0.2.1', '192.0.2.1]', '192.0.2.1', '[192.0.2.1] ', '[ 192.0.2.1]', '[192.0.2.1]\n', '[192.0.2.1/24]'],
    ...[
      '[2001:db8::1]',
      '[IPv6:192.0.2.1]',
      '[IPv6:]',
      '[IPv6:2001:db8]',
      '[IPv6:2001::db8::1]',
      '[IPv6:fe80::1%eth0]',
    ],
    ...['[IPv6:g::1]', '[IPv4:192.0.2.1]', '[x400:abc]', '[example.org]', '[::1]'],
  ]
  for (const text of bad) test(JSON.stringify(text), () => assert.equal(parseLiteral(text), undefined))
})

suite('localPartValue', () => {
  const table: readonly [text: string, value: string][] = [
    ['Abuse@example.org', 'abuse'],
    ['"Abuse"@example.org', 'abuse'],
    ['"a\\b\\"c"@example.org', 'ab"c'],
    ['""@example.org', ''],
  ]
  for (const [text, value] of table) test(text, () => assert.equal(localPartValue(address(text)), value))
})

suite('parsePath: properties', () => {
  const alphabet = fc.constantFrom(
    ...'ab.@<>"\\ %!,:[]()',
    '\0',
    '\r',
    '\n',
    '\x1b',
    'ü',
    '\u2028',
    '\ud800',
    'example.org',
  )
  const noise = fc.array(alphabet, { maxLength: 25, size: 'max' }).map((pieces) => pieces.join(''))
  const path = fc.oneof(
    noise,
    noise.map((t) => `<${t}@example.org>`),
    noise.map((t) => `<"${t}"@example.org>`),
  )

  test('what parses is rebuilt without loss, holds no control, and parses again to the same', () => {
    let parsedOnes = 0
    fc.assert(
      fc.property(path, fc.boolean(), (text, utf8) => {
        const parsed = parsePath(text, utf8)
        if (parsed.kind === 'error' || parsed.address === null) return
        parsedOnes++
        const rebuilt = addressText(parsed.address)
        assert.doesNotMatch(rebuilt, /[\x00-\x1f\x7f-\x9f\u2028\u2029]/)
        assert.ok(text.startsWith(`<${parsed.address.localPart}`))
        // A domain beyond ASCII is rebuilt as A-labels: only the local part still tells how it was written.
        const utf8Again = /[^\x00-\x7f]/.test(parsed.address.localPart)
        const again = { ...parsed, address: { ...parsed.address, utf8: utf8Again }, rest: '' }
        assert.deepEqual(parsePath(`<${rebuilt}>`, true), again)
        assert.equal(parsed.rest.length + text.lastIndexOf(parsed.rest), text.length)
        if (!utf8) assert.match(rebuilt, /^[\x20-\x7e]*$/)
      }),
      { numRuns: 5000 },
    )
    assert.ok(parsedOnes > 100, `${parsedOnes} parsed`)
  })
})

test('a full-width routing character is one too', () => {
  for (const local of ['victim％example.org', 'example.org！victim', 'victim＠example.org']) {
    assert.equal(address(`${local}@example.com`).routing, true, local)
  }
})
