import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { DataDecoder } from '../../src/smtp/data-decoder.ts'
import { DataEncoder, NotCanonicalError } from '../../src/smtp/data-encoder.ts'
import { allStrings, cutAt, cuts, octets, plainSplits, singly, wireText } from '../support/splits.ts'

function encode(chunks: readonly Buffer[]): string {
  const encoder = new DataEncoder()
  const out = chunks.flatMap((chunk) => encoder.push(chunk).map((bytes) => bytes.toString('latin1')))
  return out.join('') + encoder.end().toString('latin1')
}

function decode(wire: string): { content: string; clean: boolean; rest: number } {
  let content = ''
  const decoder = new DataDecoder((bytes) => {
    content += bytes.toString('latin1')
  })
  const taken = decoder.push(octets(wire))
  const clean = decoder.ended && Object.values(decoder.defects).every((defect) => !defect)
  return { content, clean, rest: wire.length - taken }
}

/** The obvious encoder, on a whole text; undefined where the text is not canonical. */
function reference(content: string): string | undefined {
  if (/\0|\r(?!\n)|(?<!\r)\n/.test(content)) return undefined
  const closed = content === '' || content.endsWith('\r\n') ? content : `${content}\r\n`
  return `${closed.replace(/^\./gm, '..')}.\r\n`
}

/** Messages with CRLF line ends only, many of their lines dots. */
function canonical(): fc.Arbitrary<string> {
  const piece = fc.constantFrom('.', '.', 'a', ' ', '\xff', '\t', 'MAIL FROM:<>', '\x0b')
  const line = fc.array(piece, { maxLength: 6, size: 'max' }).map((pieces) => pieces.join(''))
  return fc.array(line, { maxLength: 20, size: 'max' }).map((lines) => lines.join('\r\n'))
}

suite('DataEncoder', () => {
  const table: readonly [title: string, content: string, wire: string][] = [
    ['an empty message', '', '.\r\n'],
    ['one line', 'a\r\n', 'a\r\n.\r\n'],
    ['a missing final CRLF is added', 'a', 'a\r\n.\r\n'],
    ['a dot at the very start', '.', '..\r\n.\r\n'],
    ['a line of one dot', 'a\r\n.\r\nb\r\n', 'a\r\n..\r\nb\r\n.\r\n'],
    ['lines that start with dots', '.a\r\n..\r\n...b\r\n', '..a\r\n...\r\n....b\r\n.\r\n'],
    ['dots elsewhere', 'a.\r\n .\r\n', 'a.\r\n .\r\n.\r\n'],
    ['an empty last line', 'a\r\n\r\n', 'a\r\n\r\n.\r\n'],
    ['a smuggled envelope stays text', 'a\r\n.\r\nMAIL FROM:<>\r\n', 'a\r\n..\r\nMAIL FROM:<>\r\n.\r\n'],
    ['8-bit octets and controls pass', '\xe9\x85\x01\x0b\x0c\r\n', '\xe9\x85\x01\x0b\x0c\r\n.\r\n'],
  ]
  for (const [title, content, wire] of table) {
    test(title, () => {
      for (const chunks of plainSplits(octets(content))) assert.equal(encode(chunks), wire)
    })
  }

  test('decode(encode(m)) = m, and the split does not matter', () => {
    fc.assert(
      fc.property(canonical(), cuts(), (content, at) => {
        const wire = encode([octets(content)])
        assert.equal(encode(cutAt(octets(content), at)), wire)
        const closed = content === '' || content.endsWith('\r\n') ? content : `${content}\r\n`
        assert.deepEqual(decode(wire), { content: closed, clean: true, rest: 0 })
      }),
      { numRuns: 5000 },
    )
  })

  test('all strings up to 6 octets: as the reference says, or refused', () => {
    for (const content of allStrings(['\r', '\n', '.', 'x', '\0'], 6)) checkAgainstReference(content, [])
  })

  test('any octets in any split: as the reference says, or refused', () => {
    fc.assert(fc.property(wireText(), cuts(), checkAgainstReference), { numRuns: 5000 })
  })

  test('one stray octet in a good message is always found', () => {
    fc.assert(
      fc.property(canonical(), fc.constantFrom('\r', '\n', '\0'), fc.nat(200), cuts(), (content, stray, where, at) => {
        const i = where % (content.length + 1)
        const spoilt = content.slice(0, i) + stray + content.slice(i)
        assert.throws(() => encode(cutAt(octets(spoilt), at)), NotCanonicalError)
      }),
      { numRuns: 3000 },
    )
  })
})

function checkAgainstReference(content: string, at: readonly number[]): void {
  const want = reference(content)
  for (const chunks of [singly(octets(content)), cutAt(octets(content), at)]) {
    if (want === undefined) assert.throws(() => encode(chunks), NotCanonicalError, JSON.stringify(content))
    else assert.equal(encode(chunks), want, JSON.stringify(content))
  }
}

suite('DataEncoder: after the end and after a fault', () => {
  test('the dot is written once (P2)', () => {
    const encoder = new DataEncoder()
    encoder.push(octets('a\r\n'))
    assert.equal(encoder.end().toString('latin1'), '.\r\n')
    assert.throws(() => encoder.end(), NotCanonicalError)
    assert.throws(() => encoder.push(octets('b\r\n')), NotCanonicalError)
  })

  for (const bad of ['a\nb', 'a\rb', '\0']) {
    test(`no dot after ${JSON.stringify(bad)}, even if the first error was missed`, () => {
      const encoder = new DataEncoder()
      encoder.push(octets('good\r\n'))
      assert.throws(() => encoder.push(octets(bad)), NotCanonicalError)
      assert.throws(() => encoder.push(octets('good\r\n')), NotCanonicalError)
      assert.throws(() => encoder.end(), NotCanonicalError)
    })
  }

  test('a CR at the very end has no LF to wait for', () => {
    const encoder = new DataEncoder()
    encoder.push(octets('a\r'))
    assert.throws(() => encoder.end(), NotCanonicalError)
    assert.throws(() => encoder.end(), NotCanonicalError)
  })
})
