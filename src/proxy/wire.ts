// The stream to the client: bounded in both directions, with deadlines, and always knowing whether the client is still there.
// Promise: reading goes on while a command is at work, up to a bound, so that a client that leaves is noticed at once (P2); replies of one
// turn leave in one write; a client that does not read its replies is not waited for longer than one that does not write.
// Not taken: async iteration over the socket. It stops reading while the loop body waits, and would not see the client go.
import type { Duplex } from 'node:stream'
import type { Clock, Timer } from '../net/clock.ts'

/** Why there is nothing to read. */
export type ReadEnd = 'end' | 'timeout' | 'interrupted'

const INPUT_MAX = 64 * 1024

export class Wire {
  bytesIn = 0
  bytesOut = 0
  readonly #stream: Duplex
  readonly #clock: Clock
  readonly #input: Buffer[] = []
  #inputOctets = 0
  #output = ''
  #gone = false
  #closed = false
  #interrupted = false
  #waiting: ((result: Buffer | ReadEnd) => void) | undefined
  #deadline = 0
  #alarm = Number.POSITIVE_INFINITY // when #timer fires
  #timer: Timer | undefined
  #onDrain: (() => void) | undefined
  #onGone: (() => void) | undefined
  #onInput: (() => void) | undefined

  constructor(stream: Duplex, clock: Clock) {
    this.#stream = stream
    this.#clock = clock
    stream.on('data', (chunk: Buffer) => this.#receive(chunk))
    stream.on('end', () => this.#left(false))
    stream.on('close', () => this.#left(true))
    stream.on('error', () => this.#left(true))
    stream.on('drain', () => this.#drained())
  }

  /** The client has closed its side, or the connection is broken. */
  get gone(): boolean {
    return this.#gone
  }

  /** More came than is kept, and reading has stopped: whether the client is still there cannot be seen. */
  get overrun(): boolean {
    return this.#inputOctets >= INPUT_MAX
  }

  /** Octets came that nobody has read. */
  get hasInput(): boolean {
    return this.#input.length > 0
  }

  /** Told once, when the client leaves. */
  set onGone(listener: (() => void) | undefined) {
    this.#onGone = listener
  }

  /** Told once, when octets come that nobody waits for. */
  set onInput(listener: (() => void) | undefined) {
    this.#onInput = listener
  }

  /** The next octets, or why there are none within `timeout` milliseconds. One reader at a time. */
  read(timeout: number): Promise<Buffer | ReadEnd> | Buffer | ReadEnd {
    const chunk = this.#input.shift()
    if (chunk !== undefined) {
      this.#inputOctets -= chunk.length
      if (this.#inputOctets < INPUT_MAX && this.#stream.isPaused()) this.#stream.resume()
      return chunk
    }
    if (this.#gone) return 'end'
    if (this.#interrupted) return 'interrupted'
    if (timeout <= 0) return 'timeout'
    return new Promise((resolve) => {
      this.#waiting = resolve
      this.#deadline = this.#clock.now() + timeout
      if (this.#deadline < this.#alarm) this.#setTimer(timeout)
    })
  }

  /** Makes the read that waits, and every later one that would wait, end with `interrupted`. */
  interrupt(): void {
    this.#interrupted = true
    this.#answer('interrupted')
  }

  /** Adds to the output of this turn. */
  write(text: string): void {
    this.#output += text
  }

  /** Sends the output of this turn in one write. Waits only where the client is behind with reading. */
  flush(timeout: number): Promise<void> | undefined {
    if (this.#output === '' || this.#closed) return undefined
    const output = this.#output
    this.#output = ''
    this.bytesOut += output.length
    if (this.#stream.write(output, 'latin1')) return undefined
    return new Promise((resolve) => {
      const timer = this.#clock.timer(timeout, () => this.destroy())
      this.#onDrain = () => {
        timer.clear()
        resolve()
      }
    })
  }

  /** Sends what is left and closes; resolves when the connection is gone for good, `linger` milliseconds later at most. */
  async end(linger: number): Promise<void> {
    if (this.#closed || this.#stream.destroyed) return
    let timer: Timer | undefined
    const closed = new Promise<void>((resolve) => {
      this.#stream.once('close', resolve)
      timer = this.#clock.timer(linger, () => {
        this.destroy()
        resolve()
      })
    })
    this.bytesOut += this.#output.length
    this.#stream.end(this.#output, 'latin1')
    this.#output = ''
    // What still comes is read and dropped: octets left unread would turn our close into a reset that eats the last reply.
    this.#stream.removeAllListeners('data')
    this.#stream.on('data', (chunk: Buffer) => {
      this.bytesIn += chunk.length
    })
    this.#stream.resume()
    await closed
    timer?.clear()
  }

  /** Gives the stream away, for TLS: nothing of this object touches it any more. */
  release(): Duplex {
    this.#timer?.clear()
    this.#stream.pause()
    for (const name of ['data', 'end', 'close', 'error', 'drain']) this.#stream.removeAllListeners(name)
    return this.#stream
  }

  destroy(): void {
    this.#stream.destroy()
    this.#left(true)
  }

  #receive(chunk: Buffer): void {
    this.bytesIn += chunk.length
    if (this.#waiting !== undefined) {
      this.#answer(chunk)
      return
    }
    this.#input.push(chunk)
    this.#inputOctets += chunk.length
    if (this.#inputOctets >= INPUT_MAX) this.#stream.pause()
    const listener = this.#onInput
    this.#onInput = undefined
    listener?.()
  }

  #answer(result: Buffer | ReadEnd): void {
    const waiting = this.#waiting
    this.#waiting = undefined
    waiting?.(result)
  }

  // The timer is not cleared when a read ends but left to find out: one timer in many reads instead of one each. Only a deadline before it
  // (the patience with a line that ends in LF, the end of data_time) needs a timer of its own.
  #timeUp(): void {
    this.#timer = undefined
    this.#alarm = Number.POSITIVE_INFINITY
    if (this.#waiting === undefined) return
    const left = this.#deadline - this.#clock.now()
    if (left <= 0) this.#answer('timeout')
    else this.#setTimer(left)
  }

  #setTimer(milliseconds: number): void {
    this.#timer?.clear()
    this.#alarm = this.#clock.now() + milliseconds
    this.#timer = this.#clock.timer(milliseconds, () => this.#timeUp())
  }

  #drained(): void {
    const listener = this.#onDrain
    this.#onDrain = undefined
    listener?.()
  }

  #left(closed: boolean): void {
    if (closed && !this.#closed) {
      this.#closed = true
      this.#timer?.clear()
      this.#timer = undefined
      this.#drained()
    }
    if (this.#gone) return
    this.#gone = true
    this.#answer('end')
    const listener = this.#onGone
    this.#onGone = undefined
    listener?.()
  }
}
