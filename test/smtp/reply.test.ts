import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { closing, enhancedCode, isPositive, printable, type Reply, reply, replyText } from '../../src/smtp/reply.ts'
import { ReplyReader } from '../../src/smtp/reply-reader.ts'

const CODE = fc.constantFrom(
  220,
  221,
  235,
  250,
  252,
  334,
  354,
  421,
  450,
  451,
  452,
  500,
  501,
  503,
  535,
  550,
  552,
  554,
  555,
)
const HOSTILE = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 50 }),
  fc.constantFrom('a\r\n250 2.0.0 ok', '\u2028\u0085\x7f', 'x'.repeat(2000), '\x1b[31m', '\ud800', 'é'.repeat(600)),
)

const replies: fc.Arbitrary<Reply> = fc
  .record({
    code: CODE,
    enhanced: fc.option(fc.tuple(fc.nat(7), fc.nat(99)), { nil: undefined }),
    lines: fc.array(HOSTILE, { maxLength: 5 }),
  })
  .map(({ code, enhanced, lines }) => (enhanced === undefined ? { code, lines } : { code, enhanced, lines }))

suite('replyText', () => {
  const table: readonly [r: Reply, text: string][] = [
    [reply(550, [7, 1], 'no'), '550 5.7.1 no\r\n'],
    [reply(450, [7, 1], 'later'), '450 4.7.1 later\r\n'],
    [reply(250, [1, 0], 'ok'), '250 2.1.0 ok\r\n'],
    [closing(421, [4, 2], 'idle'), '421 4.4.2 idle\r\n'],
    [{ code: 220, lines: ['mx.example.org ESMTP'] }, '220 mx.example.org ESMTP\r\n'],
    [{ code: 250, lines: ['mx', 'SIZE 10', 'DSN'] }, '250-mx\r\n250-SIZE 10\r\n250 DSN\r\n'],
    [{ code: 550, enhanced: [7, 1], lines: ['a', 'b'] }, '550-5.7.1 a\r\n550 5.7.1 b\r\n'],
    [{ code: 354, lines: ['go'] }, '354 go\r\n'],
    [{ code: 354, enhanced: [0, 0], lines: ['go'] }, '354 go\r\n'], // RFC 3463: there is no class 3
    [{ code: 250, lines: [] }, '250 \r\n'],
    [reply(550, [7, 1], 'a\r\n250 ok\0\x7f\x1bé\u2028'), '550 5.7.1 a??250 ok?????\r\n'],
  ]
  for (const [r, text] of table) test(JSON.stringify(text), () => assert.equal(replyText(r), text))

  test('whatever goes in: complete lines of printable ASCII, 512 octets at most, one code, one class', () => {
    fc.assert(
      fc.property(replies, (r) => {
        const text = replyText(r)
        assert.match(text, /^(?:[ -~]+\r\n)+$/)
        const lines = text.slice(0, -2).split('\r\n')
        assert.equal(lines.length, Math.max(1, r.lines.length))
        for (const [i, line] of lines.entries()) {
          assert.ok(line.length + 2 <= 512, `${line.length} octets`)
          assert.ok(line.startsWith(`${r.code}${i === lines.length - 1 ? ' ' : '-'}`), line)
          const enhanced = enhancedCode(r)
          if (enhanced === undefined) continue
          assert.equal(enhanced[0], String(r.code)[0])
          assert.ok(line.slice(4).startsWith(`${enhanced} `), line)
        }
      }),
      { numRuns: 3000 },
    )
  })

  test('what is written is read back as one reply with the same code', () => {
    fc.assert(
      fc.property(replies, (r) => {
        const back = new ReplyReader().push(Buffer.from(replyText(r)))
        assert.equal(back.length, 1)
        assert.equal(back[0]?.code, r.code)
        if (enhancedCode(r) !== undefined) assert.deepEqual(back[0]?.enhanced, r.enhanced)
      }),
      { numRuns: 1000 },
    )
  })

  test('a reply has a bounded number of lines and still ends properly', () => {
    const lines = replyText({ code: 250, lines: Array.from({ length: 1000 }, () => 'x') }).split('\r\n')
    assert.ok(lines.length <= 101)
    assert.equal(lines.at(-2), '250 x')
    assert.equal(lines.at(-3), '250-x')
  })
})

suite('replies', () => {
  test('closing marks the reply, reply does not', () => {
    assert.equal(closing(421, [7, 0], 'x').close, true)
    assert.equal(reply(421, [7, 0], 'x').close, undefined)
  })

  test('2xx and 3xx are positive', () => {
    for (const code of [220, 250, 252, 334, 354]) assert.equal(isPositive({ code, lines: [] }), true, `${code}`)
    for (const code of [421, 450, 500, 550, 555]) assert.equal(isPositive({ code, lines: [] }), false, `${code}`)
  })

  test('printable keeps good text as it is', () => {
    assert.equal(printable('a <b@c>: ~!'), 'a <b@c>: ~!')
    assert.equal(printable('\t\n'), '??')
  })
})
