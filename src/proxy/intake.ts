// A message on its way in, however it comes (DATA or BDAT): what is kept, what it may cost, and what is wrong with it in the end.
// Promise (P4): a message that is over a limit or defective is still read to its end, without being kept; the refusal waits until then.
import { Message, SpoolError } from '../message/message.ts'
import { type Reply, reply } from '../smtp/reply.ts'
import type { Session } from './session.ts'
import { type Broken, TimedReader } from './timed-reader.ts'
import type { Transaction } from './transaction.ts'

const STORAGE_FULL = reply(452, [3, 1], 'Out of storage, try again later')

/** What a decoder reports about the lines of a message. */
export interface Lines {
  readonly defects: {
    readonly bareLf: boolean
    readonly bareCr: boolean
    readonly nul: boolean
    readonly nearEnd?: boolean
  }
  readonly longestLine: number
}

export interface Refusal {
  readonly reply: Reply
  readonly why: string
}

export class Intake {
  readonly message: Message
  readonly #session: Session
  readonly #maximum: number
  readonly #reader: TimedReader
  #tooLarge = false
  #spool: SpoolError | undefined

  constructor(session: Session, tx: Transaction) {
    const { deps, offer } = session
    this.#session = session
    this.message = new Message(deps.storage)
    tx.message = this.message
    this.#maximum = offer?.size ?? deps.limits.messageSize
    this.#reader = new TimedReader(session)
  }

  /** Takes decoded octets. */
  keep(bytes: Buffer): void {
    if (this.#tooLarge) return
    this.#tooLarge = this.message.size + bytes.length > this.#maximum
    if (this.#tooLarge) this.message.dispose()
    else this.message.append(bytes)
  }

  /** The next octets from the client, or why there are none. */
  async read(): Promise<Buffer | Broken> {
    if (this.message.lagging) await this.stored()
    return this.#reader.read()
  }

  /** Octets that came together with the command count as well. */
  came(octets: number): void {
    this.#reader.came(octets)
  }

  /** Waits for the disk. A disk that fails is remembered until the end. */
  async stored(): Promise<void> {
    if (this.#spool !== undefined) return
    try {
      await this.message.settled()
    } catch (error) {
      if (!(error instanceof SpoolError)) throw error
      this.#spool = error
      this.message.dispose()
    }
  }

  /** What the complete message is refused for, before any filter sees it. */
  refusal(lines: Lines): Refusal | undefined {
    const { deps, id } = this.#session
    if (this.#spool !== undefined) {
      deps.log.error({ session: id, error: this.#spool.message }, 'spool failed: is the disk of data_dir full?')
      return { reply: STORAGE_FULL, why: `spool: ${this.#spool.message}` }
    }
    const r = this.#defective(lines) ?? this.#overLimit(lines)
    return r === undefined ? undefined : { reply: r, why: `protocol: ${r.lines[0] ?? ''}` }
  }

  #defective({ defects }: Lines): Reply | undefined {
    const strict = this.#session.listener.bareNewline === 'reject'
    const wrong = defects.bareCr || defects.nul || defects.nearEnd === true || (strict && defects.bareLf)
    return wrong ? reply(550, [5, 2], 'Message with stray line ends or NUL refused') : undefined
  }

  #overLimit({ longestLine }: Lines): Reply | undefined {
    const { limits } = this.#session.deps
    if (this.#tooLarge) return reply(552, [3, 4], 'Message too large')
    if (longestLine > limits.lineLength) return reply(554, [6, 0], 'Line too long in message')
    const { fields, end } = this.message.header()
    if (end > limits.headerSize || fields.length > limits.headerFields) return reply(552, [3, 4], 'Header too large')
    // RFC 5321 6.3
    const hops = fields.filter((field) => field.name.toLowerCase() === 'received').length
    return hops > limits.received ? reply(554, [4, 6], 'Too many hops, this looks like a loop') : undefined
  }
}
