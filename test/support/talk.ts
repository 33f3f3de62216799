// A client's side of one SMTP connection for tests and benchmarks: octets out as they are, whole replies in, in order.
// Promise: it tidies nothing up, and no wait is endless: a connection that is closed ends every wait.
// Not taken: the connection of the conformance suite. That one judges every reply, and needs to know the backend for it.
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import type { Duplex } from 'node:stream'

const REPLY = /^(?:\d{3}-.*\r\n)*\d{3}(?: .*)?\r\n/

export class Talk {
  readonly #stream: Duplex
  #text = ''
  #closed = false
  #look: () => void = () => {}

  private constructor(stream: Duplex) {
    this.#stream = stream
    stream.on('data', (chunk) => {
      this.#text += chunk.toString('latin1')
      this.#look()
    })
    stream.on('error', () => {}) // `close` follows
    stream.on('close', () => {
      this.#closed = true
      this.#look()
    })
  }

  /** Over a connection of the caller's; waits for nothing. */
  static over(stream: Duplex): Talk {
    return new Talk(stream)
  }

  /** Connects and waits for the greeting. */
  static async open(port: number): Promise<Talk> {
    const talk = new Talk(connect({ port, host: '127.0.0.1', noDelay: true }))
    await talk.expect('220')
    return talk
  }

  /** Connects, and says EHLO. */
  static async greeted(port: number): Promise<Talk> {
    const talk = await Talk.open(port)
    await talk.ask('EHLO client.example.net\r\n', '250')
    return talk
  }

  send(octets: string | Buffer): void {
    this.#stream.write(typeof octets === 'string' ? Buffer.from(octets, 'latin1') : octets)
  }

  /** The next reply, or undefined where the connection ends before it. */
  reply(): Promise<string | undefined> {
    return new Promise((resolve) => {
      this.#look = () => {
        const reply = REPLY.exec(this.#text)?.[0]
        if (reply === undefined && !this.#closed) return
        this.#look = () => {}
        this.#text = this.#text.slice(reply?.length ?? 0)
        resolve(reply)
      }
      this.#look()
    })
  }

  /** The next reply, which must start with `code`. */
  async expect(code: string): Promise<string> {
    const reply = await this.reply()
    if (!reply?.startsWith(code)) assert.fail(`expected ${code}, got ${reply ?? 'the end of the connection'}`)
    return reply
  }

  ask(octets: string | Buffer, code: string): Promise<string> {
    this.send(octets)
    return this.expect(code)
  }

  /** All replies until the server closes. */
  async rest(): Promise<string[]> {
    const replies: string[] = []
    for (let reply = await this.reply(); reply !== undefined; reply = await this.reply()) replies.push(reply)
    return replies
  }

  /** Closes without a word. */
  destroy(): void {
    this.#stream.destroy()
  }
}
