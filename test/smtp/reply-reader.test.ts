import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import type { Reply } from '../../src/smtp/reply.ts'
import { ReplyReader, ReplySyntaxError } from '../../src/smtp/reply-reader.ts'
import { cutAt, cuts, octets, plainSplits, singly, wireText } from '../support/splits.ts'

interface Read {
  readonly replies: readonly Reply[]
  readonly failed: boolean
  readonly midReply: boolean
}

function read(chunks: readonly Buffer[]): Read {
  const reader = new ReplyReader()
  const replies: Reply[] = []
  for (const chunk of chunks) {
    try {
      replies.push(...reader.push(chunk))
    } catch (error) {
      assert.ok(error instanceof ReplySyntaxError)
      return { replies: [...replies, ...error.replies], failed: true, midReply: false }
    }
    chunk.fill(0x55) // the reader must not look back into a chunk it was given
  }
  return { replies, failed: false, midReply: reader.midReply }
}

/** Replies, good and bad, whole and half, among octets that are none. */
function conversation(): fc.Arbitrary<string> {
  const piece = fc.oneof(
    { weight: 2, arbitrary: fc.constantFrom('250 2.1.0 ok\r\n', '354 go\r\n', '550 5.1.1 <x@y>: no\r\n', '250\r\n') },
    {
      weight: 2,
      arbitrary: fc.constantFrom('250-a\r\n250-b\r\n250 c\r\n', '250-2.1.5 a\r\n250 2.1.5 b\r\n', '221 x\n'),
    },
    {
      weight: 1,
      arbitrary: fc.constantFrom('250-', '250 a\rb', '\r\n', '\n', '99 x\r\n', '550-x\r\n250 y\r\n', '\0\xff'),
    },
    { weight: 1, arbitrary: wireText(4) },
  )
  return fc.array(piece, { maxLength: 8, size: 'max' }).map((pieces) => pieces.join(''))
}

suite('ReplyReader', () => {
  const table: readonly [wire: string, replies: Reply[]][] = [
    ['220 mx.example.org ESMTP\r\n', [{ code: 220, lines: ['mx.example.org ESMTP'] }]],
    ['250\r\n', [{ code: 250, lines: [''] }]],
    ['250 \r\n', [{ code: 250, lines: [''] }]],
    ['354 End data with <CR><LF>.<CR><LF>\r\n', [{ code: 354, lines: ['End data with <CR><LF>.<CR><LF>'] }]],
    ['250 2.1.0 Ok\r\n', [{ code: 250, lines: ['Ok'], enhanced: [1, 0] }]],
    ['250 2.0.0\r\n', [{ code: 250, lines: [''], enhanced: [0, 0] }]],
    ['550 5.7.23 SPF\r\n', [{ code: 550, lines: ['SPF'], enhanced: [7, 23] }]],
    ['250-mx\r\n250-SIZE 10\r\n250 DSN\r\n', [{ code: 250, lines: ['mx', 'SIZE 10', 'DSN'] }]],
    ['550-5.7.1 a\r\n550 5.7.1 b\r\n', [{ code: 550, lines: ['a', 'b'], enhanced: [7, 1] }]],
    ['550-5.7.1 a\r\n550 b\r\n', [{ code: 550, lines: ['a', 'b'], enhanced: [7, 1] }]],
    ['250-\r\n250\r\n', [{ code: 250, lines: ['', ''] }]],
    ['250 ok\n', [{ code: 250, lines: ['ok'] }]],
    [
      '250 ok\r\n550 5.1.1 no\r\n',
      [
        { code: 250, lines: ['ok'] },
        { code: 550, lines: ['no'], enhanced: [1, 1] },
      ],
    ],
    [
      '250 2.1.0 ok\r\n250 ok\r\n',
      [
        { code: 250, lines: ['ok'], enhanced: [1, 0] },
        { code: 250, lines: ['ok'] },
      ],
    ],
    // The class of the enhanced code follows from the basic code.
    ['450 5.2.2 full\r\n', [{ code: 450, lines: ['full'], enhanced: [2, 2] }]],
    // No enhanced codes: 3xx has none; numbers with more digits; something that only looks like one.
    ['334 5.7.0 x\r\n', [{ code: 334, lines: ['5.7.0 x'] }]],
    ['250 2.1.1000 x\r\n', [{ code: 250, lines: ['2.1.1000 x'] }]],
    ['250 2.1.0, ok\r\n', [{ code: 250, lines: ['2.1.0, ok'] }]],
    ['250 3.1.0 ok\r\n', [{ code: 250, lines: ['3.1.0 ok'] }]],
    // Odd octets are kept: the writer makes them printable.
    ['250 a\rb\0\xff\r\n', [{ code: 250, lines: ['a\rb\0\xff'] }]],
  ]
  for (const [wire, replies] of table) {
    test(JSON.stringify(wire), () => {
      for (const chunks of plainSplits(octets(wire))) {
        assert.deepEqual(read(chunks), { replies, failed: false, midReply: false })
      }
    })
  }

  const bad = ['\r\n', 'ok\r\n', '25\r\n', '2500 x\r\n', '250x\r\n', '250_x\r\n', '150 x\r\n', '650 x\r\n', '999 x\r\n']
  const worse = [
    '-250 x\r\n',
    ' 250 x\r\n',
    '250-a\r\n251 b\r\n',
    '250-a\r\nb\r\n',
    '+OK\r\n',
    '* BAD x\r\n',
    'HTTP/1.1 400\r\n',
  ]
  for (const wire of [...bad, ...worse]) {
    test(`${JSON.stringify(wire)} is no reply`, () => {
      for (const chunks of plainSplits(octets(wire))) assert.equal(read(chunks).failed, true)
    })
  }

  test('every split of every input gives the same replies and the same fault', () => {
    fc.assert(
      fc.property(conversation(), cuts(), (wire, at) => {
        const whole = read([octets(wire)])
        assert.deepEqual(read(cutAt(octets(wire), at)), whole)
        assert.deepEqual(read(singly(octets(wire))), whole)
      }),
      { numRuns: 5000 },
    )
  })

  test('midReply tells a reply that has begun', () => {
    const reader = new ReplyReader()
    assert.equal(reader.midReply, false)
    for (const octet of '250-a\r\n250 b\r') {
      assert.deepEqual(reader.push(octets(octet)), [])
      assert.equal(reader.midReply, true, octet)
    }
    assert.equal(reader.push(octets('\n')).length, 1)
    assert.equal(reader.midReply, false)
  })
})

suite('ReplyReader: faults and bounds', () => {
  test('replies before a fault in the same chunk are not lost', () => {
    const { replies, failed } = read([octets('250 2.0.0 queued as X\r\n421 bye\r\nrubbish\r\n')])
    assert.equal(failed, true)
    assert.deepEqual(
      replies.map((r) => r.code),
      [250, 421],
    )
  })

  test('nothing is read after a fault', () => {
    const reader = new ReplyReader()
    assert.throws(() => reader.push(octets('rubbish\r\n')), ReplySyntaxError)
    assert.throws(
      () => reader.push(octets('250 ok\r\n')),
      (error: unknown) => error instanceof ReplySyntaxError && error.replies.length === 0,
    )
  })

  for (const length of [4095, 4096, 4097]) {
    test(`a line of ${length} octets, CR included, is ${length > 4096 ? 'a fault' : 'taken'} in every split`, () => {
      const wire = `250 ${'x'.repeat(length - 5)}\r\n`
      for (const at of [[], [length], [length - 1], [length - 1, length], [1000, 2000]]) {
        assert.equal(read(cutAt(octets(wire), at)).failed, length > 4096, `cut at ${at}`)
      }
    })
  }

  test('an endless line is a fault', () => {
    const reader = new ReplyReader()
    assert.throws(() => {
      for (let i = 0; i < 10; i++) reader.push(octets(`250 ${'x'.repeat(1000)}`))
    }, ReplySyntaxError)
  })

  test('an endless reply is a fault', () => {
    for (const line of [`250-${'x'.repeat(1000)}\r\n`, '250-\r\n']) {
      const reader = new ReplyReader()
      let pushed = 0
      assert.throws(() => {
        for (; pushed < 200_000; pushed += line.length) reader.push(octets(line))
      }, ReplySyntaxError)
      assert.ok(pushed < 80_000, `${pushed} octets were taken`)
    }
  })

  test('the bound is that of one reply, not of the connection', () => {
    const reader = new ReplyReader()
    const reply = `${`250-${'x'.repeat(1000)}\r\n`.repeat(30)}250 ok\r\n`
    for (let i = 0; i < 10; i++) assert.equal(reader.push(octets(reply))[0]?.lines.length, 31)
  })
})
