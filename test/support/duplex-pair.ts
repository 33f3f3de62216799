// Two ends of a connection without a socket: what is written at one comes out at the other, one chunk for each write.
// Half-closed like TCP: `end` at one end is 'end' at the other, which may go on writing. `destroy` without an error looks the same from
// afar; `reset` breaks both ends, as an RST does. Writing to an end that is gone fails with EPIPE.
// Not taken: duplexPair of node:stream. It has no way to break, and the far end of a destroyed one never hears of it.
import { Duplex } from 'node:stream'

class End extends Duplex {
  #other: End | undefined
  #resume: (() => void) | undefined
  #ended = false

  constructor() {
    super({ allowHalfOpen: true })
  }

  join(other: End): void {
    this.#other = other
  }

  /** Ends the connection like a RST: the other end sees ECONNRESET. */
  reset(): void {
    const error = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' })
    this.#other?.destroy(error)
    this.destroy()
  }

  override _read(): void {
    const resume = this.#resume
    this.#resume = undefined
    resume?.()
  }

  override _write(chunk: Buffer, _encoding: string, callback: (error?: Error | null) => void): void {
    const other = this.#other
    if (other === undefined || other.destroyed || other.#ended) {
      callback(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }))
      return
    }
    if (chunk.length === 0) callback()
    else if (other.push(chunk)) callback()
    else other.#resume = callback
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#other?.finish()
    callback()
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    const other = this.#other
    if (other !== undefined) queueMicrotask(() => other.finish())
    this._read()
    callback(error)
  }

  finish(): void {
    if (this.#ended || this.destroyed) return
    this.#ended = true
    this.push(null)
  }
}

export type ConnectionEnd = Duplex & { reset(): void }

/** A connected pair. */
export function duplexPair(): [ConnectionEnd, ConnectionEnd] {
  const a = new End()
  const b = new End()
  a.join(b)
  b.join(a)
  return [a, b]
}
