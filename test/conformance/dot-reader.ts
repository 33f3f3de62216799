// The strict end of data: CRLF.CRLF and nothing else (RFC 5321 4.1.1.4). Used for what the suite sends and for what the backend gets.
// Not taken: a state per octet. Searching a window over the chunk borders is shorter and easy to believe.

const END = Buffer.from('\r\n.\r\n')

export class DotReader {
  readonly #keep: boolean
  // The line end of the DATA command counts: a message may begin with the final dot.
  #tail: Buffer = Buffer.from('\r\n')
  #chunks: Buffer[] = []
  #octets = 0

  /** `keep`: hold the octets for `content`. */
  constructor(options: { readonly keep: boolean }) {
    this.#keep = options.keep
  }

  /** Octets of the encoded message so far. */
  get octets(): number {
    return this.#octets
  }

  /** Takes octets; returns what stands behind the final dot, or undefined while it has not come. */
  push(chunk: Buffer): Buffer | undefined {
    const window = Buffer.concat([this.#tail, chunk])
    const at = window.indexOf(END)
    const taken = at === -1 ? chunk : window.subarray(this.#tail.length, Math.max(at + END.length, this.#tail.length))
    if (this.#keep) this.#chunks.push(Buffer.from(taken))
    this.#octets += taken.length
    this.#tail = Buffer.from(window.subarray(-(END.length - 1)))
    return at === -1 ? undefined : window.subarray(at + END.length)
  }

  /** The decoded message after the end was found: dots removed, the final dot line gone. */
  content(): Buffer {
    const encoded = Buffer.concat(this.#chunks).toString('latin1')
    const withoutEnd = encoded.slice(0, encoded.length - '.\r\n'.length)
    // RFC 5321 4.5.2: a leading dot is removed.
    return Buffer.from(withoutEnd.replace(/(^|\r\n)\./g, '$1'), 'latin1')
  }
}
