// One connection of the suite to the gateway: raw octets out, complete replies in, each reply checked against the invariants on arrival.
// Promise: nothing is tidied up. What a case sends goes out as it is, in the writes that the case asks for.
// Not taken: an SMTP client library. It would refuse to send what these cases are about.
import { connect, type Socket } from 'node:net'
import { type SecureVersion, type TLSSocket, connect as tlsConnect } from 'node:tls'
import { CommandTracker } from './command-tracker.ts'
import type { StepArgument } from './format.ts'
import type { ReplyChecker } from './invariants.ts'
import { type Reply, ReplyReader } from './reply-reader.ts'

/** What all connections of a case share. */
export interface Watch {
  readonly checker: ReplyChecker
  violation(text: string): void
  note(line: string): void
}

export interface ConnectionOptions {
  readonly port: number
  readonly source?: string | undefined
  readonly name: string
  /** The listener takes a PROXY header before the banner. */
  readonly proxyHeader: boolean
  readonly watch: Watch
}

export type TlsResult = { readonly ok: true; readonly names: readonly string[] } | { readonly ok: false; why: string }

const SLICE = 64 * 1024

export class Connection {
  readonly #options: ConnectionOptions
  readonly #raw: Socket
  readonly #tracker: CommandTracker
  readonly #waiting = new Set<() => void>()
  #socket: Socket | TLSSocket
  #reader = new ReplyReader()
  #replies: Reply[] = []
  #closedByPeer = false
  #closedHere = false
  #received = 0

  private constructor(socket: Socket, options: ConnectionOptions) {
    this.#options = options
    this.#raw = socket
    this.#socket = socket
    this.#tracker = new CommandTracker({ proxyHeader: options.proxyHeader })
    socket.setNoDelay(true)
    this.#listen(socket)
  }

  /** Connects; rejects where nobody listens. */
  static open(options: ConnectionOptions): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const socket = connect({
        port: options.port,
        host: '127.0.0.1',
        allowHalfOpen: true,
        ...(options.source === undefined ? {} : { localAddress: options.source }),
      })
      socket.once('error', reject)
      socket.once('connect', () => {
        socket.off('error', reject)
        resolve(new Connection(socket, options))
      })
    })
  }

  get closed(): boolean {
    return this.#closedByPeer || this.#closedHere
  }

  /** Octets that came and that no step has looked at. */
  get unread(): string {
    return this.#replies.map((reply) => `${reply.text}\n`).join('') + this.#reader.pending
  }

  /** Writes in slices, the next one when the last is off; `false` where the gateway takes no more for `patience` ms. */
  async write(octets: Buffer, patience: number): Promise<boolean> {
    this.#options.watch.note(`${this.#options.name} > ${abridged(octets.toString('latin1'))}`)
    this.#tracker.sent(octets)
    for (let at = 0; at < octets.length && !this.closed; at += SLICE) {
      if (this.#socket.write(octets.subarray(at, at + SLICE))) continue
      let drained = false
      this.#socket.once('drain', () => {
        drained = true
        this.#wake()
      })
      if (!(await this.#until(() => drained || this.closed, patience))) return false
    }
    return true
  }

  /** The next reply in order; `closed` once there is none to come. */
  async nextReply(timeout: number): Promise<Reply | 'closed' | 'timeout'> {
    await this.#until(() => this.#replies.length > 0 || this.closed, timeout)
    return this.#replies.shift() ?? (this.closed ? 'closed' : 'timeout')
  }

  waitForClose(timeout: number): Promise<boolean> {
    return this.#until(() => this.closed, timeout)
  }

  /** Waits the whole time unless octets come; octets that already wait count. */
  async silent(milliseconds: number): Promise<boolean> {
    const before = this.unread === '' ? this.#received : -1
    return !(await this.#until(() => this.#received !== before, milliseconds))
  }

  startTls(options: StepArgument<'tls'>, timeout: number): Promise<TlsResult> {
    this.#tracker.tlsStarted()
    this.#raw.removeAllListeners()
    this.#raw.on('error', () => {})
    const socket = tlsConnect({
      socket: this.#raw,
      rejectUnauthorized: false,
      ...(options.sni === undefined ? {} : { servername: options.sni }),
      minVersion: version(options.min) ?? 'TLSv1.2',
      maxVersion: version(options.max) ?? 'TLSv1.3',
      // Without this OpenSSL itself refuses TLS 1.1, and the refusal would not be the gateway's.
      ciphers: 'DEFAULT:@SECLEVEL=0',
    })
    return new Promise((resolve) => {
      const fail = (why: string): void => {
        clearTimeout(timer)
        this.#closedByPeer = true
        socket.destroy()
        this.#wake()
        resolve({ ok: false, why })
      }
      const timer = setTimeout(() => fail(`no handshake within ${timeout} ms`), timeout)
      socket.on('error', (error) => fail(error.message))
      socket.once('close', () => fail('closed during the handshake'))
      socket.once('secureConnect', () => {
        clearTimeout(timer)
        socket.removeAllListeners('error')
        socket.removeAllListeners('close')
        this.#socket = socket
        this.#listen(socket)
        this.#options.watch.note(`${this.#options.name} - ${socket.getProtocol() ?? 'TLS'}`)
        const names = socket.getPeerCertificate().subjectaltname ?? ''
        resolve({ ok: true, names: names.split(/,\s*/) })
      })
    })
  }

  close(): void {
    this.#options.watch.note(`${this.#options.name} - closed by the client`)
    this.#closedHere = true
    this.#socket.end()
    this.#socket.destroySoon()
    this.#wake()
  }

  reset(): void {
    this.#options.watch.note(`${this.#options.name} - reset by the client`)
    this.#closedHere = true
    this.#raw.resetAndDestroy()
    this.#wake()
  }

  /** FIN; the client goes on reading. */
  halfClose(): void {
    this.#options.watch.note(`${this.#options.name} - half closed by the client`)
    this.#socket.end()
  }

  /** Frees the socket at the end of the case. */
  destroy(): void {
    this.#closedHere = true
    this.#socket.destroy()
    this.#raw.destroy()
    this.#wake()
  }

  #listen(socket: Socket | TLSSocket): void {
    socket.on('data', (chunk) => this.#data(chunk))
    socket.on('end', () => this.#peerClosed('closed by the gateway'))
    socket.on('error', (error) => this.#peerClosed(`closed by the gateway: ${error.message}`))
    socket.on('close', () => this.#peerClosed('closed'))
  }

  #data(chunk: Buffer): void {
    this.#received += chunk.length
    const { watch, name } = this.#options
    for (const reply of this.#reader.push(chunk)) {
      watch.note(`${name} < ${abridged(reply.lines.join('\r\n'))}`)
      for (const text of watch.checker.check(reply, this.#tracker.reply(reply.code))) watch.violation(text)
      this.#replies.push(reply)
    }
    this.#wake()
  }

  #peerClosed(how: string): void {
    if (this.closed) return
    this.#closedByPeer = true
    this.#options.watch.note(`${this.#options.name} - ${how}`)
    if (this.#reader.pending !== '') this.#options.watch.violation('closed in the middle of a reply')
    this.#wake()
  }

  #wake(): void {
    for (const check of this.#waiting) check()
  }

  #until(ready: () => boolean, timeout: number): Promise<boolean> {
    if (ready()) return Promise.resolve(true)
    return new Promise((resolve) => {
      const finish = (result: boolean): void => {
        clearTimeout(timer)
        this.#waiting.delete(check)
        resolve(result)
      }
      const check = (): void => {
        if (ready()) finish(true)
      }
      const timer = setTimeout(() => finish(ready()), timeout)
      this.#waiting.add(check)
    })
  }
}

function version(name: string | undefined): SecureVersion | undefined {
  return name === undefined ? undefined : name === '1.0' ? 'TLSv1' : (`TLSv${name}` as SecureVersion)
}

/** Octets for the transcript: escaped, the middle of long texts left out. */
export function abridged(text: string): string {
  const shown = text.length <= 300 ? text : `${text.slice(0, 200)}… ${text.length - 260} octets …${text.slice(-60)}`
  return JSON.stringify(shown).slice(1, -1)
}
