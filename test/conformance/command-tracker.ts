// Which command does this reply answer? Follows what the client of the suite sent, command by command, message by message.
// Promise: a reply nobody asked for is noticed ("commands and replies stay in one-to-one order"). Where the octets leave room for two
// readings (a refusal in the middle of a line or of a message), the tracker says so and stops naming commands on that connection.
// Not taken: counting replies. A smuggled message gives the right number of replies to the wrong commands.
import { DotReader } from './dot-reader.ts'

export interface Answered {
  /** Upper case verb, `BANNER`, `DATA-END`, `BDAT-LAST`, `NONE` where no command waits, `?` where it cannot be known. */
  readonly verb: string
  /** What is wrong with the order. */
  readonly violation?: string
}

type State =
  | { readonly at: 'banner' }
  | { readonly at: 'command' }
  | { readonly at: 'auth' }
  | { readonly at: 'data'; readonly reader: DotReader; after: Buffer | undefined }
  | { readonly at: 'lost' }

const UNKNOWN: Answered = { verb: '?' }
const EMPTY = Buffer.alloc(0)
const V2_SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')

export class CommandTracker {
  #state: State = { at: 'banner' }
  #buffer: Buffer = EMPTY
  /** Octets of a BDAT chunk that the client has still to send. */
  #chunk = 0
  readonly #proxyHeader: boolean

  constructor(options: { readonly proxyHeader: boolean }) {
    this.#proxyHeader = options.proxyHeader
  }

  sent(octets: Buffer): void {
    if (this.#state.at === 'lost') return
    const skipped = Math.min(this.#chunk, octets.length)
    this.#chunk -= skipped
    const rest = octets.subarray(skipped)
    const state = this.#state
    if (state.at === 'data' && state.after === undefined) state.after = state.reader.push(rest)
    else if (state.at === 'data' && state.after !== undefined) state.after = Buffer.concat([state.after, rest])
    else this.#buffer = Buffer.concat([this.#buffer, rest])
  }

  /** STARTTLS succeeded: what was sent in clear behind it is void (RFC 3207 section 4.2). */
  tlsStarted(): void {
    this.#buffer = EMPTY
  }

  reply(code: number): Answered {
    const state = this.#state
    switch (state.at) {
      case 'lost':
        return UNKNOWN
      case 'banner':
        return this.#banner()
      case 'data':
        return this.#endOfData(state, code)
      case 'auth': {
        const line = this.#line()
        if (line === undefined) return this.#unasked(code)
        if (code !== 334) this.#state = { at: 'command' }
        return { verb: 'AUTH' }
      }
      case 'command':
        return this.#command(code)
    }
  }

  #banner(): Answered {
    this.#state = { at: 'command' }
    if (this.#proxyHeader) this.#dropProxyHeader()
    return { verb: 'BANNER' }
  }

  #dropProxyHeader(): void {
    const bytes = this.#buffer
    if (bytes.subarray(0, V2_SIGNATURE.length).equals(V2_SIGNATURE) && bytes.length >= 16) {
      this.#buffer = bytes.subarray(16 + bytes.readUInt16BE(14))
    } else if (bytes.toString('latin1', 0, 6) === 'PROXY ') {
      this.#line()
    }
  }

  #endOfData(state: Extract<State, { at: 'data' }>, code: number): Answered {
    if (state.after === undefined) {
      // A refusal before the end of data is allowed only with a close (P4): from here on nothing is certain.
      this.#state = { at: 'lost' }
      return code < 400 ? { verb: '?', violation: `${code} in the middle of a message` } : UNKNOWN
    }
    this.#buffer = state.after
    this.#state = { at: 'command' }
    return { verb: 'DATA-END' }
  }

  #command(code: number): Answered {
    const line = this.#line()
    if (line === undefined) return this.#unasked(code)
    const [word = ''] = line.trim().split(/\s+/)
    const verb = word.toUpperCase()
    if (verb === 'DATA' && code === 354) {
      const reader = new DotReader({ keep: false })
      this.#state = { at: 'data', reader, after: reader.push(this.#buffer) }
      this.#buffer = EMPTY
    }
    if (verb === 'AUTH' && code === 334) this.#state = { at: 'auth' }
    return verb === 'BDAT' ? this.#bdat(line, code) : { verb }
  }

  #bdat(line: string, code: number): Answered {
    const form = /^BDAT (\d{1,15})( LAST)?\s*$/i.exec(line.trimEnd())
    if (form === null) {
      // The length of the chunk is anybody's guess.
      this.#state = { at: 'lost' }
      return { verb: 'BDAT' }
    }
    const octets = Number(form[1])
    const here = Math.min(octets, this.#buffer.length)
    this.#buffer = this.#buffer.subarray(here)
    this.#chunk = octets - here
    const verb = form[2] === undefined ? 'BDAT' : 'BDAT-LAST'
    return this.#chunk > 0 && code < 400 ? { verb, violation: `${code} before the chunk was complete` } : { verb }
  }

  #unasked(code: number): Answered {
    // RFC 5321 3.8: the server may say 421 at any time and close.
    if (code === 421) return { verb: 'NONE' }
    if (this.#buffer.length > 0 && code >= 400) {
      this.#state = { at: 'lost' }
      return UNKNOWN
    }
    return { verb: 'NONE', violation: `reply ${code} to no command` }
  }

  #line(): string | undefined {
    const end = this.#buffer.indexOf('\r\n')
    if (end === -1) return undefined
    const line = this.#buffer.toString('latin1', 0, end)
    this.#buffer = this.#buffer.subarray(end + 2)
    return line
  }
}
