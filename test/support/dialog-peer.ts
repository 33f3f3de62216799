// One end of a connection as a dialogue sees it: what came is kept chunk by chunk until a step asks for it.
import { type ConnectionEnd, duplexPair } from './duplex-pair.ts'

// Only a failing dialogue waits so long: what is expected comes at once or never.
const WATCHDOG = 3000

export class Peer {
  readonly name: string
  readonly stream: ConnectionEnd
  /** The end that is given to the gateway. */
  readonly far: ConnectionEnd
  /** Whether the gateway has closed its side. */
  closed = false
  #chunks: string[] = []
  #partial = false // the first chunk is what is left of a bigger one
  #wake: (() => void) | undefined

  constructor(name: string) {
    this.name = name
    const [near, far] = duplexPair()
    this.stream = near
    this.far = far
    near.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk.toString('latin1'))
      this.#wake?.()
    })
    const over = () => {
      this.closed = true
      this.#wake?.()
    }
    near.on('end', over)
    near.on('close', over)
    near.on('error', () => {})
  }

  send(text: string): void {
    this.stream.write(Buffer.from(text, 'latin1'))
  }

  /** What came and was not asked for. */
  get unread(): string {
    return this.#chunks.join('')
  }

  /** The next line without its CRLF. */
  async line(): Promise<string> {
    await this.#until(() => this.unread.includes('\r\n'), 'a line')
    const text = this.unread
    const end = text.indexOf('\r\n')
    this.#take(end + 2)
    return text.slice(0, end)
  }

  /** What left the gateway in one write, if nothing of it was read as a line. */
  async write(): Promise<string> {
    await this.#until(() => this.#chunks.length > 0, 'a write')
    if (this.#partial) throw new Error(`${this.name}: the write was begun to be read as lines`)
    return this.#chunks.shift() ?? ''
  }

  /** Forgets what came. */
  drop(): void {
    this.#chunks = []
    this.#partial = false
  }

  async untilClosed(): Promise<void> {
    await this.#until(() => this.closed, 'the end of the connection', true)
  }

  #take(octets: number): void {
    let left = octets
    while (left > 0) {
      const first = this.#chunks.shift() ?? ''
      this.#partial = first.length > left
      if (this.#partial) this.#chunks.unshift(first.slice(left))
      left -= Math.min(left, first.length)
    }
  }

  #until(come: () => boolean, what: string, closing = false): Promise<void> {
    if (come()) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const done = (error?: Error) => {
        clearTimeout(watchdog)
        this.#wake = undefined
        if (error === undefined) resolve()
        else reject(error)
      }
      const missed = (why: string) =>
        done(new Error(`${this.name}: ${why}; unread: ${JSON.stringify(this.unread.slice(0, 400))}`))
      const watchdog = setTimeout(() => missed(`${what} was expected and did not come`), WATCHDOG)
      this.#wake = () => {
        if (come()) done()
        else if (this.closed && !closing) missed(`${what} was expected and the connection ended`)
      }
      this.#wake()
    })
  }
}
