// Bytes in, command lines out, however the bytes were split.
// Promise: only CRLF ends a line (RFC 5321 2.3.8). A line with a bare CR, a bare LF or a NUL in it is one defective line, reported when its
// CRLF comes: one command, never two. Memory is bounded by the limit of a line, not by what the client sends.
// Not taken: ending a line at a bare LF, as Postfix and Haraka do. Two readers that end lines differently are how mail is smuggled.

export type LineDefect = 'too-long' | 'bare-cr' | 'bare-lf' | 'nul'

export type Line =
  | { readonly kind: 'line'; readonly bytes: Buffer }
  /** `start`: its first octets, enough to tell the verb. */
  | { readonly kind: 'defect'; readonly defect: LineDefect; readonly start: string }
  /** So much without a CRLF that waiting on makes no sense: close. Told once; nothing comes after it. */
  | { readonly kind: 'endless' }

const CR = 0x0d
const LF = 0x0a
const EMPTY = Buffer.alloc(0)
const START = 8

/** Without a CRLF in this many octets the client is not speaking SMTP. */
export const ENDLESS_OCTETS = 65_536

export class LineReader {
  /** Octets a line may have, CRLF included; AUTH raises it for its own lines (RFC 4954 section 4). */
  limit: number
  #buffer: Buffer = EMPTY
  #start = 0 // first octet of the current line
  #scan = 0 // where the search for LF goes on
  #skipped = 0 // octets of the current line that were thrown away because it is over the limit
  #skippedStart = ''
  #bareLf = false
  #gaveUp = false // after 'endless': what follows is no command, whatever it looks like
  #ready: { line: Line; next: number } | undefined

  constructor(limit: number) {
    this.limit = limit
  }

  push(chunk: Buffer): void {
    if (this.#gaveUp) return
    if (this.#start === this.#buffer.length) {
      this.#buffer = chunk
      this.#scan -= this.#start
    } else {
      this.#buffer = Buffer.concat([this.#buffer.subarray(this.#start), chunk])
      this.#scan -= this.#start
    }
    this.#start = 0
    if (this.#ready !== undefined) this.#ready = undefined
    this.#scan = Math.max(0, this.#scan)
  }

  /** The next complete line, left where it is; undefined while none is complete. */
  peek(): Line | undefined {
    this.#ready ??= this.#find()
    return this.#ready?.line
  }

  /** Takes the next complete line. Its bytes are valid until the next `push`. */
  next(): Line | undefined {
    const line = this.peek()
    if (line === undefined || this.#ready === undefined) return undefined
    this.#start = this.#ready.next
    this.#scan = this.#start
    this.#skipped = 0
    this.#bareLf = false
    this.#ready = undefined
    return line
  }

  /** Octets that came and were not taken. */
  get buffered(): number {
    return this.#buffer.length - this.#start
  }

  /** What came ends in a bare LF: the client may be one that ends its lines so and now waits for an answer. */
  get stuckAtLf(): boolean {
    return this.buffered > 0 && this.#buffer.at(-1) === LF && this.peek() === undefined
  }

  /** Takes everything that was not taken as a line: the start of the message, after DATA. */
  takeRest(): Buffer {
    const rest = this.#buffer.subarray(this.#start)
    this.#buffer = EMPTY
    this.#start = 0
    this.#scan = 0
    this.#skipped = 0
    this.#bareLf = false
    this.#ready = undefined
    return rest
  }

  #find(): { line: Line; next: number } | undefined {
    while (!this.#gaveUp) {
      const lf = this.#buffer.indexOf(LF, this.#scan)
      if (lf < 0) return this.#incomplete()
      if (lf > this.#start && this.#buffer[lf - 1] === CR) {
        // The CRLF came too late; where it stands in its chunk must not make a difference.
        if (lf + 1 - this.#start + this.#skipped > ENDLESS_OCTETS) return this.#giveUp()
        return { line: this.#complete(this.#buffer.subarray(this.#start, lf - 1)), next: lf + 1 }
      }
      this.#bareLf = true
      this.#scan = lf + 1
    }
    return undefined
  }

  #complete(bytes: Buffer): Line {
    const defect = this.#defect(bytes)
    if (defect === undefined) return { kind: 'line', bytes }
    return {
      kind: 'defect',
      defect,
      start: this.#skipped > 0 ? this.#skippedStart : bytes.toString('latin1', 0, START),
    }
  }

  #defect(bytes: Buffer): LineDefect | undefined {
    if (this.#skipped > 0 || bytes.length + 2 > this.limit) return 'too-long'
    if (this.#bareLf) return 'bare-lf'
    if (bytes.includes(CR)) return 'bare-cr'
    return bytes.includes(0) ? 'nul' : undefined
  }

  #incomplete(): { line: Line; next: number } | undefined {
    this.#scan = this.#buffer.length
    if (this.buffered + this.#skipped >= ENDLESS_OCTETS) return this.#giveUp()
    if (this.buffered > this.limit) {
      // The line is too long whatever follows: keep one octet, which may be the CR of its end.
      if (this.#skipped === 0) this.#skippedStart = this.#buffer.toString('latin1', this.#start, this.#start + START)
      this.#skipped += this.buffered - 1
      this.#buffer = Buffer.from(this.#buffer.subarray(this.#buffer.length - 1))
      this.#start = 0
      this.#scan = 1
    }
    return undefined
  }

  #giveUp(): { line: Line; next: number } {
    this.#gaveUp = true
    this.#buffer = EMPTY
    this.#start = 0
    return { line: { kind: 'endless' }, next: 0 }
  }
}
