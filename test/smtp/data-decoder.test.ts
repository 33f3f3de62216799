import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { DataDecoder, type DataDefects } from '../../src/smtp/data-decoder.ts'
import { allStrings, cutAt, cuts, octets, plainSplits, singly, wireText } from '../support/splits.ts'

interface Decoded {
  /** How many octets the message and its end took; undefined if it did not end. */
  readonly end: number | undefined
  readonly content: string
  readonly defects: DataDefects
  readonly longest: number
}

function decode(chunks: readonly Buffer[]): Decoded {
  let content = ''
  const decoder = new DataDecoder((bytes) => {
    content += bytes.toString('latin1')
  })
  let taken = 0
  for (const chunk of chunks) {
    const n = decoder.push(chunk)
    assert.ok(decoder.ended || n === chunk.length, 'before the end everything is taken')
    taken += n
    chunk.fill(0x55) // the decoder must not look back into a chunk it was given
  }
  const end = decoder.ended ? taken : undefined
  return { end, content, defects: decoder.defects, longest: decoder.longestLine }
}

/** The obvious decoder, on a whole text. Its content is that of a message without defects. */
function reference(wire: string): Decoded {
  const { body, end } = split(wire)
  const lines = body.split('\n') // the last one has no end yet
  const complete = lines.slice(0, -1)
  return {
    end,
    content: unstuffed(body.endsWith('\r') ? body.slice(0, -1) : body),
    defects: {
      bareLf: complete.some((line) => !line.endsWith('\r')),
      bareCr: /\r[^\n]/.test(body),
      nul: body.includes('\0'),
      nearEnd: complete.some((line, i) => isNearEnd(line, i > 0 && !complete[i - 1]?.endsWith('\r'))),
    },
    longest: Math.max(0, ...complete.map((line) => line.replace(/\r$/, '').length)),
  }
}

/** RFC 5321 4.1.1.4: the end is CRLF.CRLF, whose first CRLF may be that of the DATA command. */
function split(wire: string): { body: string; end: number | undefined } {
  if (wire.startsWith('.\r\n')) return { body: '', end: 3 }
  const at = wire.indexOf('\r\n.\r\n')
  return at < 0 ? { body: wire, end: undefined } : { body: wire.slice(0, at + 2), end: at + 5 }
}

function unstuffed(body: string): string {
  return body.replace(/\r?\n/g, '\r\n').replace(/(^|\n)\./g, '$1')
}

function isNearEnd(line: string, afterBareLf: boolean): boolean {
  return /^\.\.?$/.test(line) || (afterBareLf && /^\.\.?\r$/.test(line))
}

function isRefused(d: DataDefects): boolean {
  return d.bareCr || d.nul || d.nearEnd
}

/** Same end, same defects; the same content, or, of a defective message, a clean beginning of it. */
function assertSame(seen: Decoded, want: Decoded, title: string): void {
  assert.equal(seen.end, want.end, title)
  assert.deepEqual(seen.defects, want.defects, title)
  assert.equal(seen.longest, want.longest, title)
  if (isRefused(want.defects)) {
    assert.ok(want.content.startsWith(seen.content), title)
    assert.doesNotMatch(seen.content, /\0|\r(?!\n)|(?<!\r)\n/, title)
  } else {
    assert.equal(seen.content, want.content, title)
  }
}

const NONE: DataDefects = { bareLf: false, bareCr: false, nul: false, nearEnd: false }

suite('DataDecoder', () => {
  const accepted: readonly [title: string, wire: string, content: string, bareLf?: true][] = [
    ['an empty message', '.\r\n', ''],
    ['one line', 'a\r\n.\r\n', 'a\r\n'],
    ['stuffed lines', '..\r\n...\r\n..a\r\n.b\r\n . \r\n.\r\n', '.\r\n..\r\n.a\r\nb\r\n . \r\n'],
    ['a dot and a blank are content', 'a\r\n. \r\nb\r\n.\r\n', 'a\r\n \r\nb\r\n'],
    ['a dot at the end of a line is content', 'a.\r\n.\r\n', 'a.\r\n'],
    ['8-bit octets pass', '\xe9\xff\x80\x85\r\n.\r\n', '\xe9\xff\x80\x85\r\n'],
    ['controls other than CR, LF and NUL pass', '\t\x0b\x0c\x01\x1b\r\n.\r\n', '\t\x0b\x0c\x01\x1b\r\n'],
    ['empty lines', '\r\n\r\n.\r\n', '\r\n\r\n'],
    ['a bare LF in the text becomes CRLF', 'a\nb\n\nc\r\n.\r\n', 'a\r\nb\r\n\r\nc\r\n', true],
    ['a stuffed line behind a bare LF', 'a\n..b\r\n.c\nd\r\n.\r\n', 'a\r\n.b\r\nc\r\nd\r\n', true],
    ['the first octet is a bare LF', '\na\r\n.\r\n', '\r\na\r\n', true],
    ['three dots next to a bare LF stand for two and end nothing', 'a\n...\nb\r\n.\r\n', 'a\r\n..\r\nb\r\n', true],
  ]
  for (const [title, wire, content, bareLf] of accepted) {
    test(title, () => {
      for (const chunks of plainSplits(octets(wire))) {
        const seen = decode(chunks)
        assert.equal(seen.content, content)
        assert.deepEqual(seen.defects, { ...NONE, bareLf: bareLf ?? false })
        assert.equal(seen.end, wire.length)
      }
    })
  }

  const refused: readonly [wire: string, defects: Partial<DataDefects>][] = [
    ['a\n.\nb\r\n.\r\n', { bareLf: true, nearEnd: true }],
    ['a\n.\r\nb\r\n.\r\n', { bareLf: true, nearEnd: true }],
    ['a\r\n.\nb\r\n.\r\n', { bareLf: true, nearEnd: true }],
    ['a\n..\r\nb\r\n.\r\n', { bareLf: true, nearEnd: true }],
    ['a\r\n..\nb\r\n.\r\n', { bareLf: true, nearEnd: true }],
    ['.\nb\r\n.\r\n', { bareLf: true, nearEnd: true }],
    ['\n.\r\nb\r\n.\r\n', { bareLf: true, nearEnd: true }],
    ['a\r.\rb\r\n.\r\n', { bareCr: true }],
    ['a\r.\r\nb\r\n.\r\n', { bareCr: true }],
    ['a\n.\rb\r\n.\r\n', { bareLf: true, bareCr: true }],
    ['a\r.\nb\r\n.\r\n', { bareLf: true, bareCr: true }],
    ['a\r\n.\rb\r\n.\r\n', { bareCr: true }],
    ['a\r\n.\r\r\nb\r\n.\r\n', { bareCr: true }],
    ['a\r\r\n.\r\r\nb\r\n.\r\n', { bareCr: true }],
    ['a\r\r\n.\r\n', { bareCr: true }],
    ['a\rb\r\n.\r\n', { bareCr: true }],
    ['a\r\n\0.\r\nb\r\n.\r\n', { nul: true }],
    ['a\r\n.\0\r\nb\r\n.\r\n', { nul: true }],
    ['\0\r\n.\r\n', { nul: true }],
  ]
  for (const [wire, defects] of refused) {
    test(`${JSON.stringify(wire)} is read to its true end and refused`, () => {
      for (const chunks of plainSplits(octets(wire))) {
        const seen = decode(chunks)
        assert.deepEqual(seen.defects, { ...NONE, ...defects })
        assert.equal(seen.end, wire.length)
        assert.ok(isRefused(seen.defects))
      }
    })
  }

  test('all strings up to 7 octets: as the reference says, whole and octet by octet', () => {
    for (const wire of allStrings(['\r', '\n', '.', 'x', '\0'], 7)) {
      const want = reference(wire)
      const bytes = octets(wire)
      const title = JSON.stringify(wire)
      const apart = decode(singly(bytes))
      assertSame(decode([bytes]), want, title)
      assertSame(apart, want, title)
    }
  })

  test('every split of every input: as the reference says', () => {
    fc.assert(
      fc.property(wireText(), cuts(), (wire, at) => {
        const want = reference(wire)
        assertSame(decode([octets(wire)]), want, 'whole')
        assertSame(decode(cutAt(octets(wire), at)), want, 'cut')
      }),
      { numRuns: 10_000 },
    )
  })

  const upTo: readonly [wire: string, handedOn: string][] = [
    ['a\n.\nb\r\n.\r\n', 'a\r\n'],
    ['a\n..\r\nb\r\n.\r\n', 'a\r\n.'], // the second dot went on before its line was known
    ['a\r\nb\rc\r\n.\r\n', 'a\r\nb'],
    ['a\0b\r\n.\r\n', 'a'],
  ]
  for (const [wire, handedOn] of upTo) {
    test(`nothing of ${JSON.stringify(wire)} is handed on from the defect on`, () => {
      assert.equal(decode(singly(octets(wire))).content, handedOn)
    })
  }

  test('what follows the end of data is not touched', () => {
    let content = ''
    const decoder = new DataDecoder((bytes) => {
      content += bytes.toString('latin1')
    })
    assert.equal(decoder.push(octets('a\r\n.\r\nRSET\r\n')), 6)
    assert.equal(decoder.push(octets('b\r\n.\r\n')), 0)
    assert.equal(decoder.push(Buffer.alloc(0)), 0)
    assert.equal(content, 'a\r\n')
    assert.deepEqual(decoder.defects, NONE)
  })

  test('the end is found while the message is being thrown away', () => {
    const decoder = new DataDecoder(() => {})
    let n = 0
    for (let i = 0; i < 300; i++) n += decoder.push(octets(`${'x'.repeat(1000)}\n.\n${'y'.repeat(1000)}\r.\r`))
    assert.equal(decoder.ended, false)
    assert.equal(n, 300 * 2006)
    assert.equal(decoder.push(octets('\n\r\n.\r')), 5)
    assert.equal(decoder.ended, false)
    assert.equal(decoder.push(octets('\nQUIT\r\n')), 1)
    assert.equal(decoder.ended, true)
  })
})

suite('DataDecoder.longestLine', () => {
  const table: readonly [wire: string, longest: number][] = [
    ['.\r\n', 0],
    ['a\r\nbcd\r\nef\r\n.\r\n', 3],
    ['..a\r\n.\r\n', 3],
    ['abcd\nef\r\n.\r\n', 4],
    ['abcdef', 0], // complete lines only
    ['ab\r\ncdef', 2],
    [`${'x'.repeat(70_000)}\r\n.\r\n`, 70_000],
  ]
  for (const [wire, longest] of table) {
    test(`${JSON.stringify(wire.slice(0, 20))} (${wire.length} octets): ${longest}`, () => {
      assert.equal(decode([octets(wire)]).longest, longest)
      assert.equal(decode(singly(octets(wire))).longest, longest)
      assert.equal(decode(cutAt(octets(wire), [1, 2, 3, 4])).longest, longest)
    })
  }
})
