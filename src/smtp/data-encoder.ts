// The decoded message on its way to the backend: dot-stuffed, ended by CRLF.CRLF. The only place that writes dots (P3).
// Promise: it is no mirror of the decoder but checks for itself: octets that are not CRLF-canonical or hold a NUL throw, and the caller
// closes the backend connection without the dot. So a fault of ours upstream becomes a deferral, not a smuggled message. Once it has thrown
// or written the dot it throws for ever: whoever missed the first error cannot end the message after it, and nobody ends one twice (P2).

const CR = 0x0d
const LF = 0x0a
const DOT = 0x2e
const ONE_DOT = Buffer.from('.')

export class NotCanonicalError extends Error {
  override readonly name = 'NotCanonicalError'
}

export class DataEncoder {
  #lineStart = true
  #afterCr = false
  #open = true

  /** The octets to send for this piece of the message: views into it, and dots between them. */
  push(chunk: Buffer): Buffer[] {
    this.#close()
    const out: Buffer[] = []
    let from = 0
    let lineStart = this.#lineStart
    let afterCr = this.#afterCr
    for (let i = 0; i < chunk.length; i++) {
      let octet = chunk[i] as number
      if (lineStart && octet === DOT) {
        // RFC 5321 4.5.2: a line that starts with a dot is given another.
        if (i > from) out.push(chunk.subarray(from, i))
        out.push(ONE_DOT)
        from = i
      }
      lineStart = false
      if (!afterCr) while (octet > CR && ++i < chunk.length) octet = chunk[i] as number
      if (i === chunk.length) break
      if (afterCr !== (octet === LF)) throw new NotCanonicalError(afterCr ? 'bare CR in message' : 'bare LF in message')
      if (octet === 0) throw new NotCanonicalError('NUL in message')
      lineStart = octet === LF
      afterCr = octet === CR
    }
    this.#lineStart = lineStart
    this.#afterCr = afterCr
    this.#open = true
    if (from < chunk.length) out.push(from === 0 ? chunk : chunk.subarray(from))
    return out
  }

  /** The end of data. A message without a final CRLF is given one (RFC 5321 4.1.1.4). */
  end(): Buffer {
    this.#close()
    if (this.#afterCr) throw new NotCanonicalError('bare CR at the end of the message')
    return Buffer.from(this.#lineStart ? '.\r\n' : '\r\n.\r\n')
  }

  // Closed until the piece at hand is found good.
  #close(): void {
    if (!this.#open) throw new NotCanonicalError('message already ended or broken')
    this.#open = false
  }
}
