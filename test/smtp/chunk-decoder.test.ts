// The decoder of BDAT payloads: whatever the split, the same text and the same defects as a decoder that sees everything at once.
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { ChunkDecoder, type ChunkDefects } from '../../src/smtp/chunk-decoder.ts'
import { allStrings, cutAt, cuts, octets, plainSplits, singly, wireText } from '../support/splits.ts'

interface Decoded {
  readonly content: string
  readonly defects: ChunkDefects
  readonly longest: number
}

function decode(chunks: readonly Buffer[]): Decoded {
  let content = ''
  const decoder = new ChunkDecoder((bytes) => {
    content += bytes.toString('latin1')
  })
  for (const chunk of chunks) {
    decoder.push(chunk)
    chunk.fill(0x55) // the decoder must not look back into a chunk it was given
  }
  decoder.end()
  return { content, defects: decoder.defects, longest: decoder.longestLine }
}

/** The obvious decoder, on a whole text. Its content is that of a message without defects. */
function reference(payload: string): Decoded {
  const lines = payload.split('\n')
  const ended = lines.slice(0, -1)
  return {
    content: payload.replace(/\r?\n/g, '\r\n'),
    defects: {
      bareLf: ended.some((line) => !line.endsWith('\r')),
      bareCr: /\r(?!\n)/.test(payload),
      nul: payload.includes('\0'),
    },
    longest: Math.max(lines.at(-1)?.length ?? 0, ...ended.map((line) => line.replace(/\r$/, '').length)),
  }
}

/** Same defects, same longest line; the same content, or, of a defective message, a clean beginning of it. */
function assertSame(seen: Decoded, want: Decoded, title: string): void {
  assert.deepEqual(seen.defects, want.defects, title)
  assert.equal(seen.longest, want.longest, title)
  if (want.defects.bareCr || want.defects.nul) {
    assert.ok(want.content.startsWith(seen.content), title)
    assert.doesNotMatch(seen.content, /\0|\r(?!\n)|(?<!\r)\n/, title)
  } else {
    assert.equal(seen.content, want.content, title)
  }
}

const NONE: ChunkDefects = { bareLf: false, bareCr: false, nul: false }

suite('ChunkDecoder', () => {
  const accepted: readonly [title: string, payload: string, content: string, bareLf?: true][] = [
    ['nothing', '', ''],
    ['a line', 'a\r\n', 'a\r\n'],
    ['dots mean nothing', '.\r\n..\r\n.a\r\n.\r\nRSET\r\n', '.\r\n..\r\n.a\r\n.\r\nRSET\r\n'],
    ['a line without an end stays without', 'a\r\nb', 'a\r\nb'],
    ['8-bit octets pass', '\xe9\xff\x80\r\n', '\xe9\xff\x80\r\n'],
    ['controls other than CR, LF and NUL pass', '\t\x0b\x0c\x01\x1b\r\n', '\t\x0b\x0c\x01\x1b\r\n'],
    ['empty lines', '\r\n\r\n', '\r\n\r\n'],
    ['a bare LF becomes CRLF', 'a\nb\n\nc\r\n', 'a\r\nb\r\n\r\nc\r\n', true],
    ['next to a dot line as well: it ends nothing', 'a\n.\nb\n.\r\nc', 'a\r\n.\r\nb\r\n.\r\nc', true],
    ['the first octet is a bare LF', '\na', '\r\na', true],
    ['a bare LF behind CRLF', 'a\r\n\nb', 'a\r\n\r\nb', true],
  ]
  for (const [title, payload, content, bareLf] of accepted) {
    test(title, () => {
      for (const chunks of plainSplits(octets(payload))) {
        const seen = decode(chunks)
        assert.equal(seen.content, content)
        assert.deepEqual(seen.defects, { ...NONE, bareLf: bareLf ?? false })
      }
    })
  }

  const refused: readonly [payload: string, defects: Partial<ChunkDefects>][] = [
    ['a\rb\r\n', { bareCr: true }],
    ['a\r\r\n', { bareCr: true }],
    ['\r', { bareCr: true }],
    ['a\r\nb\r', { bareCr: true }],
    ['a\r\tb\r\n', { bareCr: true }],
    ['a\r\xffb\r\n', { bareCr: true }],
    ['a\0b\r\n', { nul: true }],
    ['\0', { nul: true }],
    ['a\r\0\nb', { bareCr: true, bareLf: true, nul: true }],
    ['a\n\r.\r\n', { bareCr: true, bareLf: true }],
  ]
  for (const [payload, defects] of refused) {
    test(`${JSON.stringify(payload)} is refused`, () => {
      for (const chunks of plainSplits(octets(payload))) {
        assert.deepEqual(decode(chunks).defects, { ...NONE, ...defects })
      }
    })
  }

  test('all strings up to 6 octets in all their splits: as the reference says', () => {
    for (const payload of allStrings(['\r', '\n', '.', 'x', '\0'], 6)) {
      const want = reference(payload)
      const bytes = octets(payload)
      const title = JSON.stringify(payload)
      for (let cut = 0; cut < 2 ** Math.max(0, bytes.length - 1); cut++) {
        const at = Array.from({ length: bytes.length - 1 }, (_, i) => i + 1).filter((i) => cut & (1 << (i - 1)))
        assertSame(decode(cutAt(bytes, at)), want, title)
      }
    }
  })

  test('every split of every input, empty chunks among them: as the reference says', () => {
    fc.assert(
      fc.property(wireText(), cuts(), (payload, at) => {
        const want = reference(payload)
        assertSame(decode([octets(payload)]), want, 'whole')
        assertSame(decode(cutAt(octets(payload), at)), want, 'cut')
      }),
      { numRuns: 10_000 },
    )
  })

  const upTo: readonly [payload: string, handedOn: string][] = [
    ['a\r\nb\rc\r\nd\r\n', 'a\r\nb'],
    ['a\0b\r\n', 'a'],
    ['a\r\r\nb\r\n', 'a'],
  ]
  for (const [payload, handedOn] of upTo) {
    test(`nothing of ${JSON.stringify(payload)} is handed on from the defect on`, () => {
      assert.equal(decode(singly(octets(payload))).content, handedOn)
    })
  }

  test('a CR waits for what follows it', () => {
    let content = ''
    const decoder = new ChunkDecoder((bytes) => {
      content += bytes.toString('latin1')
    })
    decoder.push(octets('a\r'))
    decoder.push(octets(''))
    assert.equal(content, 'a')
    decoder.push(octets('\n'))
    assert.equal(content, 'a\r\n')
    assert.deepEqual(decoder.defects, NONE)
  })

  test('only end() makes a CR at the end a bare one', () => {
    const decoder = new ChunkDecoder(() => {})
    decoder.push(octets('a\r'))
    assert.deepEqual(decoder.defects, NONE)
    decoder.end()
    assert.deepEqual(decoder.defects, { ...NONE, bareCr: true })
  })
})

suite('ChunkDecoder.longestLine', () => {
  const table: readonly [payload: string, before: number, after: number][] = [
    ['', 0, 0],
    ['a\r\nbcd\r\nef\r\n', 3, 3],
    ['abcd\nef\r\n', 4, 4],
    ['abcdef', 0, 6], // without an end it counts when nothing follows any more
    ['ab\r\ncdef', 2, 4],
    ['abcdef\r\ngh', 6, 6],
    [`${'x'.repeat(70_000)}\r\n`, 70_000, 70_000],
  ]
  for (const [payload, before, after] of table) {
    test(`${JSON.stringify(payload.slice(0, 20))} (${payload.length} octets): ${before}, at its end ${after}`, () => {
      const bytes = octets(payload)
      for (const chunks of [[bytes], singly(bytes), cutAt(bytes, [1, 2, 3, 4])]) {
        const decoder = new ChunkDecoder(() => {})
        for (const chunk of chunks) decoder.push(chunk)
        assert.equal(decoder.longestLine, before)
        decoder.end()
        assert.equal(decoder.longestLine, after)
      }
    })
  }
})
