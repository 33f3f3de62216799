// One connection to a backend server, in the client's role.
// Promise: every command gets one reply, in order, or a BackendError in bounded time; commands given in one turn leave in one write, and
// wait for each other where the server does not announce PIPELINING; whatever the server says out of turn ends the connection, but for a
// refusal in the middle of a message, which is kept for the end of data.
import { connect as tcpConnect } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Clock, Timer } from '../net/clock.ts'
import type { EventBus } from '../observe/events.ts'
import { type EhloProfile, parseEhlo } from '../smtp/extensions.ts'
import type { Reply } from '../smtp/reply.ts'
import { ReplyReader, ReplySyntaxError } from '../smtp/reply-reader.ts'
import { BackendError, type BackendFault } from './destination.ts'

export interface Server {
  readonly host: string
  readonly port: number
}

export interface BackendOptions {
  readonly server: Server
  /** Our name in EHLO. */
  readonly hostname: string
  readonly connectTimeout: number
  readonly commandTimeout: number
  readonly clock: Clock
  readonly events: EventBus
  /** What goes before everything else (the PROXY protocol), given our own address. */
  readonly prelude?: (own: { readonly address: string; readonly port: number }) => Buffer | undefined
  /** For tests; the default is TCP. */
  readonly dial?: (server: Server) => Duplex
}

interface Waiting {
  readonly verb: string
  readonly timeout: number
  readonly since: number
  readonly resolve: (reply: Reply) => void
  readonly reject: (error: BackendError) => void
}

export class BackendConnection {
  /** The client that the server was told about last (XCLIENT). */
  identity: string | undefined
  /** How often it was taken from the pool before. */
  uses = 0
  profile: EhloProfile = parseEhlo([])
  readonly server: string
  readonly #options: BackendOptions
  /** Under TLS. */
  secure = false
  #stream: Duplex
  readonly #reader = new ReplyReader()
  readonly #sent: Waiting[] = []
  readonly #unsent: { line: string; waiting: Waiting }[] = []
  #flushing = false
  #timer: Timer | undefined
  #failure: BackendError | undefined
  #inBody = false
  #refusal: Reply | undefined
  #onDrain: (() => void) | undefined
  #onClosed: (() => void) | undefined

  /** Dials; what is said first is backend-connect.ts's to know. */
  constructor(options: BackendOptions) {
    this.#options = options
    this.server = `${options.server.host}:${options.server.port}`
    this.#stream = options.dial?.(options.server) ?? this.#tcp(options)
    if (options.dial !== undefined) this.#prepend(options.prelude?.({ address: '127.0.0.1', port: 0 }))
    this.#listen()
  }

  #tcp(options: BackendOptions): Duplex {
    const socket = tcpConnect({ ...options.server, noDelay: true, keepAlive: true })
    socket.once('connect', () => {
      this.#prepend(options.prelude?.({ address: socket.localAddress ?? '127.0.0.1', port: socket.localPort ?? 0 }))
    })
    return socket
  }

  #prepend(octets: Buffer | undefined): void {
    if (octets !== undefined) this.#stream.write(octets)
  }

  #listen(): void {
    this.#stream.on('data', (chunk: Buffer) => this.#receive(chunk))
    this.#stream.on('drain', () => this.#drained())
    this.#stream.on('error', (error) => this.#fail('lost', `connection failed: ${error.message}`))
    this.#stream.on('end', () => this.#fail('lost', 'closed by the server'))
    this.#stream.on('close', () => this.#fail('lost', 'connection closed'))
  }

  /** Waits for the greeting. Rejects with BackendError. */
  greeting(timeout: number): Promise<Reply> {
    return this.#expect('CONNECT', timeout)
  }

  /** Goes over to TLS behind the server's 220. Octets that came with it were not said under TLS: the connection is given up (CVE-2011-0411). */
  async upgrade(secure: (plain: Duplex) => Promise<Duplex>): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    if (!this.clean) {
      this.#fail('garbage', 'octets in clear behind the answer to STARTTLS')
      throw this.#failure ?? new Error('unreachable')
    }
    const plain = this.#stream
    for (const name of ['data', 'drain', 'error', 'end', 'close']) plain.removeAllListeners(name)
    try {
      this.#stream = await secure(plain)
    } catch (error) {
      this.#fail('tls', error instanceof Error ? error.message : String(error))
      throw error
    }
    this.secure = true
    this.#listen()
  }

  /** Our name in EHLO. */
  get ownName(): string {
    return this.#options.hostname
  }

  get alive(): boolean {
    return this.#failure === undefined
  }

  /** Nothing is under way and nothing half said: fit for the next message. */
  get clean(): boolean {
    return this.alive && !this.#inBody && !this.#reader.midReply && this.#sent.length === 0 && this.#unsent.length === 0
  }

  /** What the server refused the message with before its end (4xx or 5xx). */
  get refusal(): Reply | undefined {
    return this.#refusal
  }

  /** Told once when the connection is gone, whatever the reason. */
  set onClosed(listener: (() => void) | undefined) {
    this.#onClosed = listener
  }

  /** Sends a command and waits for its reply. Rejects with BackendError. */
  command(verb: string, argument = '', timeout = this.#options.commandTimeout): Promise<Reply> {
    const blank = argument === '' || argument.startsWith(' ') ? '' : ' '
    return this.#enqueue({ line: `${verb}${blank}${argument}\r\n`, verb, timeout })
  }

  /** Sends a line as it is (an AUTH exchange): nothing that is told about it repeats it. */
  exchange(line: string): Promise<Reply> {
    return this.#enqueue({ line: `${line}\r\n`, verb: 'AUTH', timeout: this.#options.commandTimeout })
  }

  #enqueue({ line, verb, timeout }: { line: string; verb: string; timeout: number }): Promise<Reply> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) {
        reject(this.#failure)
        return
      }
      this.#unsent.push({ line, waiting: { verb, timeout, since: this.#options.clock.now(), resolve, reject } })
      this.#scheduleFlush()
    })
  }

  /** Writes message octets; resolves when more may be written. Rejects with BackendError. */
  send(buffers: readonly Buffer[]): Promise<void> | undefined {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    this.#stream.cork()
    let free = true
    for (const buffer of buffers) free = this.#stream.write(buffer)
    this.#stream.uncork()
    return free ? undefined : this.#drain()
  }

  /** Writes the last octets, which end the data, and waits for the answer to the dot. Rejects with BackendError. */
  sendDot(buffers: readonly Buffer[], timeout: number): Promise<Reply> {
    this.#inBody = false
    const answer = this.#expect('DOT', timeout)
    this.send(buffers)?.catch(() => {}) // a failure rejects `answer` as well
    return answer
  }

  /** Ends the connection: with QUIT where nothing is under way, at once otherwise. */
  close(): void {
    if (this.#failure !== undefined) return
    if (this.#inBody || this.#sent.length > 0 || this.#unsent.length > 0) {
      this.destroy()
      return
    }
    this.#failure = new BackendError('lost', this.server, 'closed by us')
    this.#stream.end('QUIT\r\n')
    const timer = this.#options.clock.timer(2000, () => this.#stream.destroy())
    this.#stream.once('close', () => timer.clear())
    this.#gone()
  }

  /** Ends the connection without a word. */
  destroy(): void {
    this.#fail('lost', 'closed by us')
  }

  #expect(verb: string, timeout: number): Promise<Reply> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) {
        reject(this.#failure)
        return
      }
      this.#sent.push({ verb, timeout, since: this.#options.clock.now(), resolve, reject })
      this.#arm()
    })
  }

  #scheduleFlush(): void {
    if (this.#flushing) return
    this.#flushing = true
    queueMicrotask(() => {
      this.#flushing = false
      this.#flush()
    })
  }

  #flush(): void {
    if (this.#failure !== undefined) return
    let out = ''
    while (this.#unsent.length > 0 && (this.profile.pipelining || this.#sent.length === 0)) {
      const next = this.#unsent.shift()
      if (next === undefined) break
      out += next.line
      this.#sent.push(next.waiting)
    }
    if (out === '') return
    this.#stream.write(out)
    this.#arm()
  }

  // One timer: it belongs to the oldest command without a reply.
  #arm(): void {
    const first = this.#sent[0]
    this.#timer?.clear()
    this.#timer = undefined
    if (first === undefined) return
    this.#timer = this.#options.clock.timer(first.timeout, () => this.#fail('timeout', `no answer to ${first.verb}`))
  }

  #receive(chunk: Buffer): void {
    if (this.#failure !== undefined) return
    let replies: readonly Reply[]
    let garbage: ReplySyntaxError | undefined
    try {
      replies = this.#reader.push(chunk)
    } catch (error) {
      if (!(error instanceof ReplySyntaxError)) throw error
      garbage = error
      // What was complete before the fault counts: it may be the answer to the dot.
      replies = error.replies
    }
    for (const reply of replies) {
      const waiting = this.#sent.shift()
      if (waiting === undefined) {
        this.#outOfTurn(reply)
        continue
      }
      const milliseconds = this.#options.clock.now() - waiting.since
      this.#options.events.emit('backend-replied', {
        backend: this.server,
        command: waiting.verb,
        code: reply.code,
        milliseconds,
      })
      // From 354 to the dot nothing is expected: what comes is an early refusal, perhaps in this very chunk.
      if (waiting.verb === 'DATA' && reply.code === 354) this.#inBody = true
      waiting.resolve(reply)
    }
    if (garbage !== undefined) {
      this.#fail('garbage', garbage.message)
      return
    }
    // A part of a reply is none: octets now and then must not buy the server more time.
    if (replies.length > 0) this.#arm()
    if (this.#unsent.length > 0) this.#scheduleFlush()
  }

  #outOfTurn(reply: Reply): void {
    if (this.#inBody && reply.code >= 400) {
      this.#refusal ??= reply
      this.#drained()
      return
    }
    // A 421 while idle is the server's good-bye; anything else means that we and it are out of step.
    this.#fail(reply.code === 421 ? 'lost' : 'garbage', `the server said ${reply.code} out of turn`)
  }

  #drain(): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = this.#options.clock.timer(this.#options.commandTimeout, () =>
        this.#fail('lost', 'takes no more data'),
      )
      this.#onDrain = () => {
        timer.clear()
        if (this.#failure === undefined) resolve()
        else reject(this.#failure)
      }
    })
  }

  #drained(): void {
    const listener = this.#onDrain
    this.#onDrain = undefined
    listener?.()
  }

  #fail(fault: BackendFault, what: string): void {
    if (this.#failure !== undefined) return
    const failure = new BackendError(fault, this.server, what)
    this.#failure = failure
    this.#timer?.clear()
    this.#stream.destroy()
    for (const waiting of this.#sent.splice(0)) waiting.reject(failure)
    for (const { waiting } of this.#unsent.splice(0)) waiting.reject(failure)
    this.#drained()
    this.#gone()
  }

  #gone(): void {
    const listener = this.#onClosed
    this.#onClosed = undefined
    listener?.()
  }
}
