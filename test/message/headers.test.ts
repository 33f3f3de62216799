// The header of a message: fields with their places, from any bytes, without an exception and without loss.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { firstField, parseHeader, unfolded } from '../../src/message/headers.ts'
import { octets } from '../support/splits.ts'

function names(text: string): string[] {
  return parseHeader(octets(text)).fields.map((f) => f.name)
}

test('fields, folded ones included, with raw values and places', () => {
  const text = 'Subject: a\r\n b\r\n\tc\r\nX-Empty:\r\nTo:x\r\n\r\nbody: no\r\n'
  const { fields, end } = parseHeader(octets(text))
  assert.deepEqual(fields, [
    { name: 'Subject', value: ' a\r\n b\r\n\tc', start: 0, end: 20 },
    { name: 'X-Empty', value: '', start: 20, end: 30 },
    { name: 'To', value: 'x', start: 30, end: 36 },
  ])
  assert.equal(text.slice(end), '\r\nbody: no\r\n')
})

for (const [name, text, expected] of [
  ['nothing', '', []],
  ['an empty line first', '\r\nSubject: a\r\n', []],
  ['a message without a header', 'hello\r\nSubject: a\r\n', []],
  ['a line that is no field is passed over, as lenient readers do', 'A: 1\r\nno field\r\nB: 2\r\n', ['A', 'B']],
  ['a mailbox separator first is passed over', '>From a@b Sun\r\nA: 1\r\n', ['A']],
  ['blanks before the colon', 'A : 1\r\nB\t: 2\r\n', ['A', 'B']],
  ['no body', 'A: 1\r\nB: 2', ['A', 'B']],
  ['a fold at the end', 'A: 1\r\n ', ['A']],
  ['a line of blanks goes on with the field before it', 'A: 1\r\n  \r\nB: 2\r\n', ['A', 'B']],
  ['a fold first is no field', ' A: 1\r\nB: 2\r\n', []],
  ['a colon first is no field', ': 1\r\n', []],
  ['a blank inside a name', 'A B: 1\r\n', []],
  ['octets beyond ASCII in a name', 'Ä: 1\r\n', []],
  ['names of objects', '__proto__: 1\r\nconstructor: 2\r\n', ['__proto__', 'constructor']],
] as const) {
  test(name, () => assert.deepEqual(names(text), expected))
}

test('no octet of a value is lost', () => {
  const [field] = parseHeader(Buffer.from([...Buffer.from('A:'), 0xff, 0x00, 0xe4, 0x0d, 0x0a])).fields
  assert.equal(field?.value, '\xff\0\xe4')
})

test('at most so many fields', () => {
  const { fields, end } = parseHeader(octets('A: 1\r\nB: 2\r\nC: 3\r\n'), 2)
  assert.deepEqual([fields.length, end], [2, 12])
})

test('whatever comes, the fields stand in order within the header, and nothing between them looks like one', () => {
  const piece = fc.constantFrom('A', ':', ' ', '\t', '\r\n', '\n', '\r', '\0', '\xff', 'Subject: x\r\n', '\r\n ')
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30, size: 'max' }), (pieces) => {
      const bytes = octets(pieces.join(''))
      const { fields, end } = parseHeader(bytes)
      let at = 0
      for (const field of fields) {
        assert.ok(field.start >= at)
        assert.doesNotMatch(bytes.toString('latin1', at, field.start), /^[!-9;-~]+[ \t]*:/)
        assert.ok(field.end > field.start)
        const raw = bytes.toString('latin1', field.start, field.end)
        assert.ok(raw.startsWith(field.name))
        assert.ok(raw.replace(/\r?\n$/, '').endsWith(field.value))
        at = field.end
      }
      assert.ok(at <= end && end <= bytes.length)
    }),
  )
})

test('a large header is read in time that grows with its size', () => {
  // A hostile one: blanks that could belong to the name, one field of many folds, one long name without a colon.
  for (const text of [`A${' '.repeat(200_000)}x\r\n`, `A: ${'\r\n x'.repeat(60_000)}`, 'A'.repeat(200_000)]) {
    parseHeader(octets(text))
  }
})

test('unfolded: one line, blanks trimmed', () => {
  assert.equal(unfolded(' a\r\n b\r\n\t c\n d '), 'a b c d')
  assert.equal(unfolded('\r\n\t'), '')
})

test('the first field of a name, in any letter case', () => {
  const { fields } = parseHeader(octets('B: 0\r\nmessage-ID: 1\r\nMessage-Id: 2\r\n'))
  assert.equal(firstField(fields, 'Message-ID')?.value, ' 1')
  assert.equal(firstField(fields, 'Date'), undefined)
})
