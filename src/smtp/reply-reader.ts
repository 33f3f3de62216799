// Replies of a backend, from bytes to values.
// Promise: a reply is given only when it is complete and well-formed; anything else throws ReplySyntaxError, and the caller closes the
// connection. Memory is bounded. The text is passed on as it is: who writes it out makes it printable (reply.ts).
// departs: a bare LF ends a reply line too (RFC 5321 2.3.8). A reply carries no data in which a line end could be hidden, and the backend is
// ours.
import type { EnhancedDetail, Reply } from './reply.ts'

const REPLY_OCTETS = 64 * 1024
const LINE_OCTETS = 4096
const LF = 0x0a

export class ReplySyntaxError extends Error {
  override readonly name = 'ReplySyntaxError'
  /** The replies of the same `push` that were complete before the fault: the answer to the dot may be among them. */
  readonly replies: readonly Reply[]

  constructor(message: string, replies: readonly Reply[]) {
    super(message)
    this.replies = replies
  }
}

export class ReplyReader {
  #pending = ''
  #code = 0
  #enhanced: EnhancedDetail | undefined
  #lines: string[] = []
  #octets = 0
  #replies: Reply[] = []
  #broken = false

  /** Takes octets; returns the replies that became complete with them. Throws ReplySyntaxError, then and ever after. */
  push(chunk: Buffer): Reply[] {
    this.#replies = []
    if (this.#broken) this.#fail('octets after a bad reply')
    let from = 0
    for (let lf = chunk.indexOf(LF); lf >= 0; lf = chunk.indexOf(LF, from)) {
      const line = this.#pending + chunk.toString('latin1', from, lf)
      this.#pending = ''
      from = lf + 1
      const done = this.#line(line)
      if (done !== undefined) this.#replies.push(done)
    }
    this.#pending += chunk.toString('latin1', from)
    if (this.#pending.length > LINE_OCTETS) this.#fail('reply line too long')
    return this.#replies
  }

  /** A reply has begun and is not complete. */
  get midReply(): boolean {
    return this.#pending !== '' || this.#lines.length > 0
  }

  #fail(why: string): never {
    this.#broken = true
    throw new ReplySyntaxError(why, this.#replies)
  }

  #line(line: string): Reply | undefined {
    this.#octets += line.length
    // The CR counts, since in another split it would have been waiting alone.
    if (line.length > LINE_OCTETS || this.#octets > REPLY_OCTETS) this.#fail('reply too long')
    const text = line.endsWith('\r') ? line.slice(0, -1) : line
    // RFC 5321 4.2: three digits, then a blank or a hyphen and text, or nothing.
    const match = /^([2-5]\d\d)(?:([ -])(.*))?$/s.exec(text)
    if (match?.[1] === undefined) return this.#fail('not an SMTP reply')
    const code = Number(match[1])
    if (this.#lines.length > 0 && code !== this.#code) this.#fail('reply with two codes')
    this.#code = code
    this.#lines.push(this.#withoutEnhanced(match[3] ?? ''))
    if (match[2] === '-') return undefined
    const reply: Reply = {
      code,
      lines: this.#lines,
      ...(this.#enhanced === undefined ? {} : { enhanced: this.#enhanced }),
    }
    this.#lines = []
    this.#enhanced = undefined
    this.#octets = 0
    return reply
  }

  // RFC 2034: the enhanced code stands on every line; the class is dropped, since it follows from the basic code.
  #withoutEnhanced(text: string): string {
    const match = /^[245]\.(\d{1,3})\.(\d{1,3})(?: |$)/.exec(text)
    if (match === null || this.#code < 200 || (this.#code >= 300 && this.#code < 400)) return text
    this.#enhanced ??= [Number(match[1]), Number(match[2])]
    return text.slice(match[0].length)
  }
}
