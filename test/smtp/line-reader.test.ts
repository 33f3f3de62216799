import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { ENDLESS_OCTETS, LineReader } from '../../src/smtp/line-reader.ts'
import { allStrings, cutAt, cuts, octets, singly, wireText } from '../support/splits.ts'

/** What the reader said, as text: `=line`, `!defect`, or `endless`. */
function take(reader: LineReader): string[] {
  const events: string[] = []
  for (let line = reader.next(); line !== undefined; line = reader.next()) {
    if (line.kind === 'line') events.push(`=${line.bytes.toString('latin1')}`)
    else events.push(line.kind === 'defect' ? `!${line.defect}` : 'endless')
  }
  return events
}

function read(chunks: readonly Buffer[], limit = 2048): string[] {
  const reader = new LineReader(limit)
  return chunks.flatMap((chunk) => {
    reader.push(chunk)
    return take(reader)
  })
}

/** The obvious reader, on a whole text. */
function expected(text: string, limit: number): string[] {
  return text
    .split('\r\n')
    .slice(0, -1)
    .map((line) => {
      if (line.length + 2 > limit) return '!too-long'
      if (line.includes('\n')) return '!bare-lf'
      if (line.includes('\r')) return '!bare-cr'
      return line.includes('\0') ? '!nul' : `=${line}`
    })
}

suite('LineReader', () => {
  const table: readonly [title: string, text: string, events: string[]][] = [
    ['a line', 'NOOP\r\n', ['=NOOP']],
    ['an empty line', '\r\n', ['=']],
    ['several lines in one chunk', 'A\r\nB\r\n\r\nC\r\n', ['=A', '=B', '=', '=C']],
    ['a part of a line is not told', 'A\r\nB', ['=A']],
    ['a CR that waits for its LF', 'A\r', []],
    ['a bare LF does not end a line', 'A\nB\r\n', ['!bare-lf']],
    ['a bare LF at the start of a line', '\nB\r\nC\r\n', ['!bare-lf', '=C']],
    ['a bare LF behind a CRLF', 'A\r\n\n\r\nB\r\n', ['=A', '!bare-lf', '=B']],
    ['a bare CR does not end a line', 'NOOP x\rMAIL FROM:<evil@example.net>\r\nB\r\n', ['!bare-cr', '=B']],
    ['CR CR LF', 'A\r\r\nB\r\n', ['!bare-cr', '=B']],
    ['NUL', 'A\0B\r\nC\r\n', ['!nul', '=C']],
    ['8-bit octets are the parser’s affair', 'A\xff\r\n', ['=A\xff']],
    ['a line with two defects is one event', 'A\0\r\n\nB\r\n', ['!nul', '!bare-lf']],
  ]
  for (const [title, text, events] of table) {
    test(title, () => {
      assert.deepEqual(read([octets(text)]), events)
      assert.deepEqual(read(singly(octets(text))), events)
    })
  }

  test('every split of every input gives the same events', () => {
    fc.assert(
      fc.property(wireText(), cuts(), fc.integer({ min: 2, max: 20 }), (text, at, limit) => {
        const want = expected(text, limit)
        assert.deepEqual(read([octets(text)], limit), want)
        assert.deepEqual(read(cutAt(octets(text), at), limit), want)
      }),
      { numRuns: 5000 },
    )
  })

  test('all short strings, octet by octet and whole', () => {
    for (const text of allStrings(['\r', '\n', '\0', 'x'], 7)) {
      const want = expected(text, 5)
      assert.deepEqual(read([octets(text)], 5), want, JSON.stringify(text))
      assert.deepEqual(read(singly(octets(text)), 5), want, JSON.stringify(text))
    }
  })

  test('taking late gives what taking at once gives', () => {
    fc.assert(
      fc.property(wireText(), cuts(), (text, at) => {
        const reader = new LineReader(2048)
        for (const chunk of cutAt(octets(text), at)) reader.push(chunk)
        assert.deepEqual(take(reader), expected(text, 2048))
      }),
    )
  })

  test('peek changes nothing, whenever it is called', () => {
    fc.assert(
      fc.property(wireText(), cuts(), fc.integer({ min: 2, max: 20 }), (text, at, limit) => {
        const reader = new LineReader(limit)
        for (const chunk of cutAt(octets(text), at)) {
          reader.push(chunk)
          assert.equal(reader.peek(), reader.peek())
        }
        const events: string[] = []
        for (let line = reader.peek(); line !== undefined; line = reader.peek()) {
          events.push(line.kind)
          assert.equal(reader.next(), line)
        }
        assert.equal(events.length, expected(text, limit).length)
      }),
    )
  })

  test('looking ahead and taking one line at a time, between the pieces', () => {
    fc.assert(
      fc.property(wireText(), cuts(), (text, at) => {
        const reader = new LineReader(2048)
        const events: string[] = []
        for (const chunk of cutAt(octets(text), at)) {
          reader.push(chunk)
          const line = reader.next()
          if (line !== undefined) events.push(line.kind === 'line' ? `=${line.bytes.toString('latin1')}` : '!')
          reader.peek()
        }
        const want = expected(text, 2048).map((event) => event.replace(/^!.*/, '!'))
        assert.deepEqual([...events, ...take(reader).map((event) => event.replace(/^!.*/, '!'))], want)
      }),
      { numRuns: 2000 },
    )
  })
})

suite('LineReader: bounds', () => {
  test('the limit counts the CRLF', () => {
    assert.deepEqual(read([octets('12345678\r\n')], 10), ['=12345678'])
    assert.deepEqual(read([octets('123456789\r\nA\r\n')], 10), ['!too-long', '=A'])
    assert.deepEqual(read(singly(octets('123456789\r\nA\r\n')), 10), ['!too-long', '=A'])
  })

  test('a limit that was raised holds for the lines that follow', () => {
    const reader = new LineReader(10)
    reader.push(octets('AUTH X\r\n'))
    assert.deepEqual(take(reader), ['=AUTH X'])
    reader.limit = 100
    reader.push(octets(`${'y'.repeat(90)}\r\n`))
    assert.deepEqual(take(reader), [`=${'y'.repeat(90)}`])
  })

  test('memory does not grow with an endless line, which is told once at 64 KiB', () => {
    const reader = new LineReader(2048)
    const chunk = octets('x'.repeat(512))
    let pushed = 0
    for (; pushed < ENDLESS_OCTETS - chunk.length; pushed += chunk.length) {
      reader.push(chunk)
      assert.deepEqual(take(reader), [])
      assert.ok(reader.buffered <= 2048 + chunk.length, `${reader.buffered} octets kept after ${pushed}`)
    }
    reader.push(chunk)
    assert.deepEqual(take(reader), ['endless'])
    for (let i = 0; i < 1000; i++) reader.push(chunk)
    reader.push(octets('\r\nMAIL FROM:<evil@example.net>\r\n'))
    assert.deepEqual(take(reader), [], 'the tail of an endless line is no command')
    assert.equal(reader.buffered, 0)
    assert.equal(reader.takeRest().length, 0)
  })

  test('a peek at an endless line does not make what follows a command', () => {
    const reader = new LineReader(2048)
    reader.push(octets('x'.repeat(ENDLESS_OCTETS)))
    assert.equal(reader.peek()?.kind, 'endless')
    reader.push(octets('\r\nNOOP\r\n'))
    assert.deepEqual(take(reader), ['endless'])
  })

  for (const length of [ENDLESS_OCTETS - 2, ENDLESS_OCTETS - 1, ENDLESS_OCTETS, ENDLESS_OCTETS + 5000]) {
    test(`a line of ${length} octets before its CRLF is the same event in every split`, () => {
      const text = octets(`A\r\n${'x'.repeat(length)}\r\nB\r\n`)
      const want = length + 2 > ENDLESS_OCTETS ? ['=A', 'endless'] : ['=A', '!too-long', '=B']
      assert.deepEqual(read([text]), want)
      for (const size of [1000, 2048, 4096, ENDLESS_OCTETS - 1, ENDLESS_OCTETS, ENDLESS_OCTETS + 1]) {
        const at = Array.from({ length: Math.floor(text.length / size) }, (_, i) => (i + 1) * size)
        const chunks: Buffer[] = []
        for (const [i, to] of [...at, text.length].entries()) chunks.push(text.subarray(at[i - 1] ?? 0, to))
        assert.deepEqual(read(chunks), want, `in chunks of ${size}`)
      }
      assert.deepEqual(read(singly(text)), want, 'octet by octet')
    })
  }

  test('bare LFs do not hide an endless line', () => {
    assert.deepEqual(read([octets('x\n'.repeat(ENDLESS_OCTETS / 2))]), ['endless'])
  })
})

suite('LineReader.takeRest', () => {
  test('gives what was not taken, and the reader starts anew', () => {
    const reader = new LineReader(2048)
    reader.push(octets('BDAT 5\r\na\nb\r\nNOOP\r\nhalf'))
    assert.equal(reader.next()?.kind, 'line')
    assert.equal(reader.buffered, 15)
    const rest = reader.takeRest()
    assert.equal(rest.toString('latin1'), 'a\nb\r\nNOOP\r\nhalf')
    assert.equal(reader.buffered, 0)
    assert.equal(reader.next(), undefined)
    reader.push(rest.subarray(5))
    assert.deepEqual(take(reader), ['=NOOP'])
    reader.push(octets(' a line\r\n'))
    assert.deepEqual(take(reader), ['=half a line'])
  })

  test('forgets a defect of the half line it takes', () => {
    const reader = new LineReader(10)
    reader.push(octets('a\nb'))
    assert.equal(reader.next(), undefined)
    assert.equal(reader.takeRest().toString('latin1'), 'a\nb')
    reader.push(octets('NOOP\r\n'))
    assert.deepEqual(take(reader), ['=NOOP'])
  })
})
