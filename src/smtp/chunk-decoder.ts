// The payload of BDAT (RFC 3030): octets by count, made canonical.
// Promise: the same canonical text as from data-decoder.ts (CRLF line ends only, a bare LF made CRLF, a bare CR or a NUL reported and nothing
// handed on from there), so that everything behind it need not know how a message came. Dots mean nothing here: the count ends the data.

const CR = 0x0d
const LF = 0x0a
const CRLF = Buffer.from('\r\n')

export interface ChunkDefects {
  readonly bareLf: boolean
  readonly bareCr: boolean
  readonly nul: boolean
}

export class ChunkDecoder {
  readonly #sink: (bytes: Buffer) => void
  #afterCr = false
  #bareLf = false
  #bareCr = false
  #nul = false
  #lineOctets = 0
  #longest = 0

  /** `sink` is given views into the pushed chunks: it copies what it keeps. */
  constructor(sink: (bytes: Buffer) => void) {
    this.#sink = sink
  }

  get defects(): ChunkDefects {
    return { bareLf: this.#bareLf, bareCr: this.#bareCr, nul: this.#nul }
  }

  /** Octets of the longest complete line, without its line end. */
  get longestLine(): number {
    return this.#longest
  }

  push(chunk: Buffer): void {
    let from = 0
    let afterCr = this.#afterCr
    for (let i = 0; i < chunk.length; i++) {
      let octet = chunk[i] as number
      if (!afterCr) while (octet > CR && ++i < chunk.length) octet = chunk[i] as number
      if (i === chunk.length) break
      if (octet === LF) {
        if (afterCr && i === 0) {
          // The CR was held back at the end of the chunk before.
          this.#give(CRLF)
          from = 1
        } else if (!afterCr) {
          this.#bareLf = true
          this.#emit(chunk, from, i)
          this.#give(CRLF)
          from = i + 1
        }
        this.#endLine(afterCr ? i - 1 : i, i + 1)
        afterCr = false
        continue
      }
      if (afterCr) this.#bareCr = true
      if (octet === 0) this.#nul = true
      afterCr = octet === CR
    }
    this.#afterCr = afterCr
    this.#emit(chunk, from, afterCr ? chunk.length - 1 : chunk.length)
    this.#lineOctets += chunk.length - this.#lineFrom
    this.#lineFrom = 0
  }

  /** No more octets follow: a CR at the very end is a bare one. */
  end(): void {
    if (this.#afterCr) this.#bareCr = true
    this.#longest = Math.max(this.#longest, this.#lineOctets)
  }

  // First octet of the current line within the current chunk.
  #lineFrom = 0

  #endLine(at: number, next: number): void {
    this.#longest = Math.max(this.#longest, this.#lineOctets + at - this.#lineFrom)
    this.#lineOctets = 0
    this.#lineFrom = next
  }

  #emit(chunk: Buffer, from: number, to: number): void {
    if (to > from) this.#give(chunk.subarray(from, to))
  }

  #give(bytes: Buffer): void {
    if (!this.#bareCr && !this.#nul) this.#sink(bytes)
  }
}
