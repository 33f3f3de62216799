// The property that the gateway stands or falls with: whatever goes in behind DATA, every reference server sees in what comes out exactly
// one message, the same for all, and nothing behind it. Here for decoder and encoder alone.
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { DataDecoder } from '../../src/smtp/data-decoder.ts'
import { DataEncoder, NotCanonicalError } from '../../src/smtp/data-encoder.ts'
import {
  assertOneReading,
  CR_LENIENT,
  type Dialect,
  ENVELOPE,
  EVIL,
  hostileData,
  isAmbiguous,
  LF_LENIENT,
  readData,
  SEQUENCES,
  STRICT,
  sloppyData,
} from '../support/smuggling.ts'
import { allStrings, cutAt, cuts, octets, plainSplits } from '../support/splits.ts'

const HEADER = 'Received: from x by y\r\n'

interface Passage {
  /** Octets taken as the message and its end. */
  readonly taken: number
  /** The decoded message in the pieces in which it came, or undefined where it is refused. */
  readonly content: readonly Buffer[] | undefined
}

function receive(chunks: readonly Buffer[]): Passage {
  const content: Buffer[] = []
  const decoder = new DataDecoder((bytes) => content.push(Buffer.from(bytes)))
  let taken = 0
  for (const chunk of chunks) {
    if (decoder.ended) break
    taken += decoder.push(chunk)
  }
  assert.equal(decoder.ended, true, 'the true end of data is found')
  const { bareCr, nul, nearEnd } = decoder.defects
  return { taken, content: bareCr || nul || nearEnd ? undefined : content }
}

/** The octets of a whole session with a backend: envelope, header, message, QUIT. */
function send(content: readonly Buffer[]): Buffer {
  const encoder = new DataEncoder()
  const out = [octets(ENVELOPE)]
  for (const piece of [octets(HEADER), ...content]) out.push(...encoder.push(piece))
  out.push(encoder.end(), octets('QUIT\r\n'))
  return Buffer.concat(out)
}

/** Checks one input in one split; says whether it was delivered or refused. */
function pass(wire: string, at: readonly number[]): 'delivered' | 'refused' {
  const { taken, content } = receive(cutAt(octets(wire), at))
  assert.equal(taken, readData(wire, 0, STRICT)?.next, 'the end is where a strict server sees it')
  if (content === undefined) return 'refused'
  const text = Buffer.concat(content).toString('latin1')
  // What is taken has one reading already as it came in.
  for (const dialect of [LF_LENIENT, CR_LENIENT]) assertReading(wire, dialect, text, taken)
  assertDelivered(send(content), text)
  assertDelivered(send(cutAt(octets(text), at)), text)
  return 'delivered'
}

function assertReading(wire: string, dialect: Dialect, content: string, next: number): void {
  assert.deepEqual(readData(wire, 0, dialect), { content, next }, dialect.name)
}

function assertDelivered(sent: Buffer, content: string): void {
  const seen = assertOneReading(sent)
  assert.deepEqual(seen.commands, [...ENVELOPE.split('\r\n').slice(0, 3), 'QUIT'])
  assert.deepEqual(seen.messages, [
    { mail: '<sender@example.net>', rcpts: ['<user@example.com>'], content: HEADER + content },
  ])
  assert.equal(seen.rest, '')
}

suite('the reference servers', () => {
  for (const [name, sequence] of SEQUENCES) {
    test(`they disagree about ${name}, if it is passed on as it is`, () => {
      const first = octets(`${ENVELOPE}Subject: s\r\n\r\nfirst`)
      assert.equal(isAmbiguous(Buffer.concat([first, octets(sequence + EVIL)])), true)
    })
  }

  test('they agree about what is well-formed', () => {
    const seen = assertOneReading(octets(`${ENVELOPE}a\r\n..\r\n.\r\nRSET\r\n${EVIL}QUIT\r\nhalf`))
    assert.deepEqual(
      seen.messages.map((m) => [m.mail, m.content]),
      [
        ['<sender@example.net>', 'a\r\n.\r\n'],
        ['<evil@example.net>', 'Subject: smuggled\r\n\r\nSMUGGLED\r\n'],
      ],
    )
    assert.equal(seen.rest, 'half')
    assert.equal(seen.commands.length, 8)
  })
})

suite('oracle: every known sequence', () => {
  const before = new Map([
    ['at the start', ''],
    ['in the header', 'Subject: s'],
    ['in the middle', 'Subject: s\r\n\r\nfirst'],
    ['behind an empty line', 'Subject: s\r\n\r\n'],
    ['behind a bare LF', 'Subject: s\r\n\r\na\nb'],
    ['behind stuffed dots', 'Subject: s\r\n\r\n..\r\n..b'],
    ['behind the sequence LF.LF', 'Subject: s\r\n\r\na\n.\n'],
  ])
  for (const [name, sequence] of SEQUENCES) {
    for (const [where, text] of before) {
      test(`${name} ${where}, at every chunk border`, () => {
        const wire = octets(`${text}${sequence}${EVIL}`)
        for (const chunks of plainSplits(wire)) {
          assert.deepEqual(receive(chunks), { taken: wire.length, content: undefined })
        }
      })
    }
    // The CRLF of the DATA command stands before the first octet.
    const atOnce = sequence.replace(/^\r\n/, '')
    test(`${name} as the first line`, () => {
      for (const chunks of plainSplits(octets(atOnce + EVIL))) assert.equal(receive(chunks).content, undefined)
    })
  }

  for (const length of [1, 510, 512, 990, 998, 1000, 1024, 2048, 4096, 8192, 16_384, 65_536]) {
    test(`a dot behind ${length} octets of one line, at a chunk border, is text`, () => {
      const long = 'x'.repeat(length)
      for (const at of [[], [length], [length + 1], [length, length + 1], [length - 1, length, length + 2]]) {
        assert.equal(pass(`${long}.\r\n${EVIL}`, at), 'delivered')
        assert.equal(pass(`a\r\n${long}.\r\n${long}.\r\n.\r\n`, [length + 3, ...at]), 'delivered')
      }
    })
  }

  test('a false end in the part of a message that is thrown away', () => {
    for (const sequence of SEQUENCES.values()) {
      let kept = 0
      const decoder = new DataDecoder((bytes) => {
        kept = Math.min(1000, kept + bytes.length)
      })
      const wire = `${'x'.repeat(70)}\r\n`.repeat(50) + sequence + EVIL
      let taken = 0
      for (const chunk of cutAt(octets(wire), [1000, 3600, 3601, 3602, 3603])) taken += decoder.push(chunk)
      assert.equal(taken, wire.length)
      assert.equal(kept, 1000)
    }
  })
})

suite('oracle: any input', () => {
  test('all short messages', () => {
    const outcomes = { delivered: 0, refused: 0 }
    for (const wire of allStrings(['\r', '\n', '.', 'x', '\0'], 5)) outcomes[pass(`${wire}\r\n.\r\n`, [1, 2, 4])]++
    assert.ok(outcomes.delivered > 100 && outcomes.refused > 100, JSON.stringify(outcomes))
  })

  const kinds: readonly [title: string, data: fc.Arbitrary<string>, runs: number][] = [
    ['hostile', hostileData(), 40_000],
    ['sloppy', sloppyData(), 20_000],
  ]
  for (const [title, data, numRuns] of kinds) {
    test(`${numRuns} ${title} messages`, (t) => {
      const outcomes = { delivered: 0, refused: 0 }
      fc.assert(
        fc.property(data, cuts(8), (wire, at) => {
          outcomes[pass(wire, at)]++
        }),
        { numRuns },
      )
      // Neither side may be empty, or the property says nothing.
      assert.ok(Math.min(outcomes.delivered, outcomes.refused) > numRuns / 100, JSON.stringify(outcomes))
      t.diagnostic(JSON.stringify(outcomes))
    })
  }
})

// Octets that did not come through the decoder: the payload of BDAT, text of our own.
suite('oracle: the encoder alone', () => {
  test('a sequence that no canonical message holds is never written', () => {
    for (const sequence of SEQUENCES.values()) {
      for (const chunks of plainSplits(octets(`a${sequence}${EVIL}`)))
        assert.throws(() => send(chunks), NotCanonicalError)
    }
  })

  test('text with LF line ends only is never written', () => {
    assert.throws(() => send([octets('Subject: s\n\na\n.\nMAIL FROM:<evil@example.net>\n')]), NotCanonicalError)
  })

  test('dot lines and commands in the text stay text', () => {
    const content = `Subject: s\r\n\r\na\r\n.\r\n${EVIL}`
    for (const chunks of plainSplits(octets(content))) assertDelivered(send(chunks), content)
  })

  test('10000 messages: written as one message, or not at all', () => {
    let written = 0
    fc.assert(
      fc.property(fc.oneof(hostileData(), sloppyData()), cuts(8), (content, at) => {
        const chunks = cutAt(octets(content), at)
        if (/\0|\r(?!\n)|(?<!\r)\n/.test(content)) {
          assert.throws(() => send(chunks), NotCanonicalError)
        } else {
          assertDelivered(send(chunks), content)
          written++
        }
      }),
      { numRuns: 10_000 },
    )
    assert.ok(written > 1000, `${written} written`)
  })
})
