// The message as it comes over the wire after 354, decoded: dots removed, CRLF line ends, and the one place that finds the end of data.
// Promise (P4): only CRLF.CRLF ends the data, in whatever pieces it comes and also while the message is being thrown away. A bare LF away
// from dot lines becomes CRLF before anybody sees the bytes. What a sloppier server could take for an end of data (a line of one dot, or of
// two, with a bare LF on either side), a bare CR and a NUL make the message defective: it is read to its true end and then refused, and
// nothing of it is handed on from the defect on.
// Not taken: Postfix's way to drop such a dot line silently. A message that needs that is an attack or a broken sender; both should hear.

export interface DataDefects {
  readonly bareLf: boolean
  readonly bareCr: boolean
  readonly nul: boolean
  readonly nearEnd: boolean
}

const CR = 0x0d
const LF = 0x0a
const DOT = 0x2e
const CRLF = Buffer.from('\r\n')

// Where the machine stands. "Dots" states mean that the line so far is exactly that.
const LINE_START = 0
const TEXT = 1
const TEXT_CR = 2
const ONE_DOT = 3
const ONE_DOT_CR = 4
const TWO_DOTS = 5
const TWO_DOTS_CR = 6
const ENDED = 7

export class DataDecoder {
  readonly #sink: (bytes: Buffer) => void
  #state = LINE_START
  #afterBareLf = false // the line before this one ended with a bare LF
  #bareLf = false
  #bareCr = false
  #nul = false
  #nearEnd = false
  #lineOctets = 0
  #longest = 0

  /** `sink` is given the decoded octets as views into the pushed chunks: it copies what it keeps. */
  constructor(sink: (bytes: Buffer) => void) {
    this.#sink = sink
  }

  get ended(): boolean {
    return this.#state === ENDED
  }

  get defects(): DataDefects {
    return { bareLf: this.#bareLf, bareCr: this.#bareCr, nul: this.#nul, nearEnd: this.#nearEnd }
  }

  /** Octets of the longest complete line as it came, without its line end. */
  get longestLine(): number {
    return this.#longest
  }

  /** Takes octets up to the end of data; returns how many. Fewer than given only when the data ended within them. */
  push(chunk: Buffer): number {
    const length = chunk.length
    let state = this.#state
    let from = 0 // first octet not yet given to the sink
    let lineFrom = 0 // first octet of this line within the chunk
    let i = 0
    for (; i < length && state !== ENDED; i++) {
      let octet = chunk[i] as number
      if (state === TEXT) {
        // The bulk of every message: nothing above CR is special inside a line.
        while (octet > CR && ++i < length) octet = chunk[i] as number
        if (i === length) break
      }
      if (octet === LF) {
        const whole = state === TEXT_CR || state === ONE_DOT_CR || state === TWO_DOTS_CR
        if (state === ONE_DOT_CR && !this.#afterBareLf) {
          state = ENDED
          from = i + 1
          continue
        }
        if (state >= ONE_DOT && (this.#afterBareLf || !whole)) this.#nearEnd = true
        if (!whole) {
          this.#bareLf = true
          this.#emit(chunk, from, i)
          this.#give(CRLF)
          from = i + 1
        } else if (i === 0) {
          // The CR was held back at the end of the chunk before.
          this.#give(CRLF)
          from = 1
        }
        this.#endLine(i - lineFrom - (whole ? 1 : 0))
        lineFrom = i + 1
        this.#afterBareLf = !whole
        state = LINE_START
        continue
      }
      if (state === TEXT_CR || state === ONE_DOT_CR || state === TWO_DOTS_CR) this.#bareCr = true
      if (octet === 0) this.#nul = true
      if (octet === CR) {
        state = state === ONE_DOT ? ONE_DOT_CR : state === TWO_DOTS ? TWO_DOTS_CR : TEXT_CR
      } else if (octet === DOT && state === LINE_START) {
        // RFC 5321 4.5.2: a leading dot is removed; alone on its line it ends the data.
        this.#emit(chunk, from, i)
        from = i + 1
        state = ONE_DOT
      } else {
        state = octet === DOT && state === ONE_DOT ? TWO_DOTS : TEXT
      }
    }
    this.#state = state
    if (state === ENDED) return i
    // A CR at the end of the chunk waits for its LF; a defect hands nothing on, so it need not be kept.
    const heldBack = state === TEXT_CR || state === ONE_DOT_CR || state === TWO_DOTS_CR
    this.#emit(chunk, from, heldBack ? length - 1 : length)
    this.#lineOctets += length - lineFrom
    return length
  }

  #endLine(octetsHere: number): void {
    const octets = this.#lineOctets + octetsHere
    if (octets > this.#longest) this.#longest = octets
    this.#lineOctets = 0
  }

  #emit(chunk: Buffer, from: number, to: number): void {
    if (to > from) this.#give(chunk.subarray(from, to))
  }

  #give(bytes: Buffer): void {
    if (!this.#bareCr && !this.#nul && !this.#nearEnd) this.#sink(bytes)
  }
}
