// Bytes cut into chunks in every way that matters, for the promise that parsers do not care how their input was split.
// Each chunk is a copy of its own, so that a test may overwrite it afterwards and catch a parser that kept a view it must not keep.
import fc from 'fast-check'

/** Octets of a string whose characters are octets: '\xff' is one octet. */
export function octets(text: string): Buffer {
  return Buffer.from(text, 'latin1')
}

/** Cuts at the given positions; any order, any range, doubles allowed (they make empty chunks). */
export function cutAt(bytes: Buffer, positions: readonly number[]): Buffer[] {
  const chunks: Buffer[] = []
  let from = 0
  for (const at of positions.map((p) => p % (bytes.length + 1)).toSorted((a, b) => a - b)) {
    chunks.push(Buffer.from(bytes.subarray(from, at)))
    from = at
  }
  chunks.push(Buffer.from(bytes.subarray(from)))
  return chunks
}

/** One chunk an octet. */
export function singly(bytes: Buffer): Buffer[] {
  return Array.from(bytes, (octet) => Buffer.of(octet))
}

/** Whole, octet by octet, and in two pieces at every position. */
export function* plainSplits(bytes: Buffer): Generator<Buffer[]> {
  yield [Buffer.from(bytes)]
  yield singly(bytes)
  for (let at = 1; at < bytes.length; at++) yield cutAt(bytes, [at])
}

/** Random cut positions for `cutAt`. */
export function cuts(maxLength = 12): fc.Arbitrary<number[]> {
  return fc.array(fc.nat(10_000), { maxLength, size: 'max' })
}

/** Text of octets, biased to those on which line readers disagree. */
export function wireText(maxLength = 60): fc.Arbitrary<string> {
  const piece = fc.constantFrom('\r', '\n', '\r\n', '.', '\0', 'a', ' ', '\xff', '\r\n.\r\n', '\n.', '.\r')
  return fc.array(piece, { maxLength, size: 'max' }).map((pieces) => pieces.join(''))
}

/** All strings over `letters` up to `maxLength`. */
export function* allStrings(letters: readonly string[], maxLength: number): Generator<string> {
  let level = ['']
  for (let length = 0; length <= maxLength; length++) {
    yield* level
    if (length < maxLength) level = level.flatMap((text) => letters.map((letter) => text + letter))
  }
}
