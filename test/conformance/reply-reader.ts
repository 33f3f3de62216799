// Bytes from the gateway -> complete replies, together with what is wrong with their form.
// Promise: every octet ends up in exactly one reply, and each departure from RFC 5321 4.2 is named, not repaired.
// Not taken: the reader of src/smtp. A test that reads with the code under test would share its mistakes.

export interface Reply {
  readonly code: number
  /** Lines without their line ends, octets as latin1. */
  readonly lines: readonly string[]
  /** The lines joined by LF: what the patterns of a case are matched against. */
  readonly text: string
  readonly violations: readonly string[]
}

// RFC 5321 4.5.3.1.5
const LINE_OCTETS = 512

export class ReplyReader {
  #rest = ''
  #lines: string[] = []
  #violations: string[] = []
  #code: string | undefined

  push(chunk: Buffer): Reply[] {
    this.#rest += chunk.toString('latin1')
    const replies: Reply[] = []
    for (let end = this.#rest.indexOf('\n'); end !== -1; end = this.#rest.indexOf('\n')) {
      const line = this.#rest.slice(0, end + 1)
      this.#rest = this.#rest.slice(end + 1)
      const reply = this.#line(line)
      if (reply !== undefined) replies.push(reply)
    }
    return replies
  }

  /** Octets of a reply that is not complete. */
  get pending(): string {
    return this.#lines.join('\n') + this.#rest
  }

  #line(raw: string): Reply | undefined {
    if (raw.length > LINE_OCTETS) this.#violations.push(`reply line of ${raw.length} octets, 512 are allowed`)
    if (!raw.endsWith('\r\n')) this.#violations.push('reply line ends in a bare LF')
    const line = raw.replace(/\r?\n$/, '')
    if (line.includes('\r')) this.#violations.push('bare CR inside a reply line')
    if (line.includes('\0')) this.#violations.push('NUL inside a reply line')
    this.#lines.push(line)
    const form = /^(\d{3})(?:([ -])|$)/.exec(line)
    if (form === null) this.#violations.push('reply line without code and separator')
    const code = form?.[1]
    if (this.#code !== undefined && code !== undefined && code !== this.#code) {
      this.#violations.push(`one reply with the codes ${this.#code} and ${code}`)
    }
    this.#code ??= code
    return form?.[2] === '-' ? undefined : this.#complete()
  }

  #complete(): Reply {
    const lines = this.#lines
    const violations = this.#violations
    const code = Number(this.#code ?? 0)
    this.#lines = []
    this.#violations = []
    this.#code = undefined
    return { code, lines, text: lines.join('\n'), violations }
  }
}
