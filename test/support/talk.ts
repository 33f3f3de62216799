// A client's side of one SMTP connection for tests and benchmarks: octets out as they are, whole replies in, in order.
// Promise: it tidies nothing up, and no wait is endless: a connection that is closed ends every wait.
// Not taken: the connection of the conformance suite. That one judges every reply, and needs to know the backend for it.
import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'

const REPLY = /^(?:\d{3}-.*\r\n)*\d{3}(?: .*)?\r\n/

export class Talk {
  readonly #socket: Socket
  #text = ''
  #closed = false
  #look: () => void = () => {}

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (chunk) => {
      this.#text += chunk.toString('latin1')
      this.#look()
    })
    socket.on('error', () => {}) // `close` follows
    socket.on('close', () => {
      this.#closed = true
      this.#look()
    })
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
    this.#socket.write(typeof octets === 'string' ? Buffer.from(octets, 'latin1') : octets)
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
    this.#socket.destroy()
  }
}
