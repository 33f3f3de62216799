// One connection from the gateway to the scripted backend: a strict SMTP server that does what the rules of the case say.
// Promise: only CRLF ends a command and only CRLF.CRLF a message; whatever else comes is recorded as a violation, never understood.
// Not taken: being liberal. A lenient backend would hide exactly the octets that these cases look for.
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import type { BackendRecord, BackendTransaction } from './backend-record.ts'
import type { RuleBook } from './backend-rules.ts'
import { LineEndGuard, parsePath, refuseParameters } from './backend-syntax.ts'
import type { Certificate } from './certificates.ts'
import { abridged } from './client.ts'
import { DotReader } from './dot-reader.ts'
import type { ActionRule, BackendMoment } from './format.ts'

export interface BackendWorld {
  readonly record: BackendRecord
  readonly rules: RuleBook
  readonly certificate: () => Promise<Certificate>
}

type Mode =
  | { readonly at: 'command' }
  | {
      readonly at: 'data'
      readonly reader: DotReader
      readonly rule: ActionRule | undefined
      struck: boolean
      answered: boolean
    }
  | { readonly at: 'auth'; readonly mechanism: 'PLAIN' | 'LOGIN'; readonly answers: readonly string[] }
  | { readonly at: 'dead' }

/** What to say at one moment, after the rules were asked. */
interface Plan {
  readonly text: string | undefined
  readonly code: number
  readonly delay: number
  readonly times: number
  readonly end: 'close' | 'rst' | 'hang' | undefined
}

const VERBS = new Set(['EHLO', 'HELO', 'MAIL', 'RCPT', 'DATA', 'RSET', 'NOOP', 'QUIT', 'STARTTLS', 'AUTH', 'XCLIENT'])
const CREDENTIALS = 'AHVzZXIAc2VjcmV0'
const EMPTY = Buffer.alloc(0)

export class BackendSession {
  readonly #world: BackendWorld
  readonly #number: number
  readonly #guard = new LineEndGuard()
  readonly #raw: Socket
  #socket: Socket
  #input: Buffer = EMPTY
  #mode: Mode = { at: 'command' }
  #transaction: BackendTransaction | undefined
  #greeted = false
  #authenticated = false
  #pumping = false
  #announced: readonly string[]

  constructor(socket: Socket, number: number, world: BackendWorld) {
    this.#raw = socket
    this.#socket = socket
    this.#number = number
    this.#world = world
    this.#announced = world.rules.ehloLines(number)
    socket.setNoDelay(true)
    this.#listen(socket)
    world.record.events.emit('backend_connect')
    void this.#answer('CONNECT', '220 backend.example.com ESMTP')
  }

  destroy(): void {
    this.#transaction = undefined
    this.#mode = { at: 'dead' }
    this.#socket.destroy()
    this.#raw.destroy()
  }

  #listen(socket: Socket): void {
    socket.on('data', (chunk) => this.#data(chunk))
    socket.on('end', () => socket.end())
    socket.on('error', () => {})
    socket.on('close', () => this.#closed())
  }

  #closed(): void {
    this.#mode = { at: 'dead' }
    this.#abort()
    this.#world.record.say(this.#number, '-', 'closed')
    this.#world.record.events.emit('backend_closed')
  }

  #abort(): void {
    if (this.#transaction === undefined) return
    this.#transaction = undefined
    this.#world.record.abort()
  }

  #data(chunk: Buffer): void {
    this.#world.record.octets(this.#number, chunk)
    for (const text of this.#guard.look(chunk)) this.#world.record.violation(this.#number, text)
    if (this.#mode.at === 'dead') return
    this.#input = this.#input.length === 0 ? chunk : Buffer.concat([this.#input, chunk])
    void this.#pump()
  }

  async #pump(): Promise<void> {
    if (this.#pumping) return
    this.#pumping = true
    while (await this.#step());
    this.#pumping = false
  }

  /** Handles one command or one piece of a message; false where more octets are needed. */
  async #step(): Promise<boolean> {
    const mode = this.#mode
    if (mode.at === 'dead' || this.#input.length === 0) return false
    if (mode.at === 'data') return this.#body(mode)
    const end = this.#input.indexOf('\r\n')
    if (end === -1) return false
    const line = this.#input.toString('latin1', 0, end)
    this.#input = this.#input.subarray(end + 2)
    this.#world.record.say(this.#number, '>', abridged(line))
    await (mode.at === 'auth' ? this.#authLine(mode, line) : this.#command(line))
    return true
  }

  async #command(line: string): Promise<void> {
    const verb = (/^[^\s]*/.exec(line)?.[0] ?? '').toUpperCase()
    if (!VERBS.has(verb)) {
      this.#world.record.violation(this.#number, `unknown verb ${abridged(line)}`)
      return this.#say('500 5.5.2 what?')
    }
    switch (verb) {
      case 'EHLO':
      case 'HELO':
        return this.#ehlo(verb)
      case 'MAIL':
        return this.#mail(line)
      case 'RCPT':
        return this.#rcpt(line)
      case 'DATA':
        return this.#dataCommand()
      case 'RSET':
        this.#world.record.events.emit('backend_rset')
        this.#abort()
        await this.#answer('RSET', '250 2.0.0 ok')
        return
      case 'QUIT':
        this.#world.record.events.emit('backend_quit')
        if ((await this.#answer('QUIT', '221 2.0.0 bye')) === 221) this.#socket.end()
        return
      case 'STARTTLS':
        return this.#startTls()
      case 'AUTH':
        return this.#auth(line)
      case 'XCLIENT':
        return this.#xclient()
      default:
        return this.#say('250 2.0.0 ok')
    }
  }

  async #ehlo(verb: 'EHLO' | 'HELO'): Promise<void> {
    this.#world.record.events.emit('backend_ehlo')
    this.#abort()
    const lines = ['backend.example.com', ...(verb === 'EHLO' ? this.#announced : [])]
    const text = lines.map((line, i) => `250${i === lines.length - 1 ? ' ' : '-'}${line}`).join('\r\n')
    if (isPositive(await this.#answer('EHLO', text))) this.#greeted = true
  }

  async #mail(line: string): Promise<void> {
    const path = parsePath(line, 'MAIL FROM')
    this.#world.record.events.emit('backend_mail')
    if (path === undefined) {
      this.#world.record.violation(this.#number, `malformed MAIL: ${abridged(line)}`)
      return this.#say('501 5.5.4 syntax')
    }
    this.#world.record.mailFrom.push(path.address)
    if (!this.#greeted || this.#transaction !== undefined) return this.#say('503 5.5.1 out of order')
    const refusal = refuseParameters(path.parameters, this.#announced)
    const transaction: BackendTransaction = { from: path.address, recipients: [] }
    const plan = this.#plan('MAIL', refusal ?? '250 2.1.0 ok')
    // The transaction stands before the reply is out: the connection may be gone by then.
    if (isPositive(plan.code)) {
      this.#transaction = transaction
      this.#world.record.transactions.push(transaction)
    }
    await this.#carryOut(plan)
  }

  async #rcpt(line: string): Promise<void> {
    const path = parsePath(line, 'RCPT TO')
    this.#world.record.events.emit('backend_rcpt')
    if (path === undefined) {
      this.#world.record.violation(this.#number, `malformed RCPT: ${abridged(line)}`)
      return this.#say('501 5.5.4 syntax')
    }
    if (this.#transaction === undefined) return this.#say('503 5.5.1 out of order')
    const plan = this.#plan('RCPT', refuseParameters(path.parameters, this.#announced) ?? '250 2.1.5 ok')
    if (isPositive(plan.code)) this.#transaction.recipients.push(path.address)
    await this.#carryOut(plan)
  }

  async #dataCommand(): Promise<void> {
    this.#world.record.events.emit('backend_data')
    if ((this.#transaction?.recipients.length ?? 0) === 0) return this.#say('503 5.5.1 no recipients')
    if ((await this.#answer('DATA', '354 go ahead')) !== 354) return
    const rule = this.#world.rules.at('BODY')
    this.#mode = { at: 'data', reader: new DotReader({ keep: true }), rule, struck: false, answered: false }
  }

  async #body(mode: Extract<Mode, { at: 'data' }>): Promise<boolean> {
    const chunk = this.#input
    this.#input = EMPTY
    this.#world.record.events.emit('backend_body')
    const rest = mode.reader.push(chunk)
    if (mode.rule !== undefined && !mode.struck && mode.reader.octets >= (mode.rule.after_bytes ?? 0)) {
      mode.struck = true
      const plan = this.#planOf(mode.rule, undefined)
      mode.answered = plan.text !== undefined
      await this.#carryOut(plan)
    }
    // The rule above may have ended the connection.
    if (rest === undefined || (this.#mode as Mode).at === 'dead') return false
    this.#input = Buffer.concat([rest, this.#input])
    this.#mode = { at: 'command' }
    await this.#endOfData(mode)
    return true
  }

  async #endOfData(mode: Extract<Mode, { at: 'data' }>): Promise<void> {
    const { record } = this.#world
    record.say(this.#number, '>', `(message of ${mode.reader.octets} octets)`)
    record.events.emit('backend_dot')
    const transaction = this.#transaction
    if (mode.answered || transaction === undefined) {
      this.#transaction = undefined
      return
    }
    const plan = this.#plan('EOD', '250 2.0.0 queued')
    if (isPositive(plan.code)) {
      record.messages.push({ ...transaction, content: mode.reader.content() })
      record.events.emit('backend_message')
    }
    await this.#carryOut(plan, () => {
      if (plan.text === undefined) return
      this.#transaction = undefined
      if (isPositive(plan.code)) record.acceptedDots++
    })
  }

  async #startTls(): Promise<void> {
    if (!this.#announced.includes('STARTTLS')) return this.#say('502 5.5.1 not offered')
    // Fetched before the reply: the first octets of the handshake come right behind it.
    const { key, certificate } = await this.#world.certificate()
    if ((await this.#answer('STARTTLS', '220 2.0.0 go ahead')) !== 220) return
    this.#raw.removeAllListeners('data')
    const secure = new TLSSocket(this.#raw, { isServer: true, key, cert: certificate })
    this.#input = EMPTY
    this.#greeted = false
    this.#socket = secure
    this.#announced = this.#announced.filter((keyword) => keyword !== 'STARTTLS')
    secure.on('data', (chunk) => this.#data(chunk))
    secure.on('error', () => {})
    secure.on('end', () => secure.end())
  }

  async #auth(line: string): Promise<void> {
    if (this.#authenticated || this.#transaction !== undefined) return this.#say('503 5.5.1 out of order')
    const [, mechanism = '', initial] = line.split(' ')
    const name = mechanism.toUpperCase()
    if (name !== 'PLAIN' && name !== 'LOGIN') return this.#say('504 5.5.4 unknown mechanism')
    this.#mode = { at: 'auth', mechanism: name, answers: [] }
    if (initial !== undefined && initial !== '=') return this.#authLine(this.#mode, initial)
    await this.#say(name === 'PLAIN' ? '334 ' : `334 ${base64('Username:')}`)
  }

  async #authLine(mode: Extract<Mode, { at: 'auth' }>, line: string): Promise<void> {
    this.#mode = { at: 'command' }
    if (line === '*') return this.#say('501 5.7.0 cancelled')
    const answers = [...mode.answers, line]
    if (mode.mechanism === 'LOGIN' && answers.length < 2) {
      this.#mode = { ...mode, answers }
      return this.#say(`334 ${base64('Password:')}`)
    }
    const good = mode.mechanism === 'PLAIN' ? CREDENTIALS : `${base64('user')} ${base64('secret')}`
    this.#authenticated = answers.join(' ') === good
    await this.#say(this.#authenticated ? '235 2.7.0 welcome' : '535 5.7.8 no')
  }

  async #xclient(): Promise<void> {
    if (!this.#announced.some((keyword) => keyword.startsWith('XCLIENT'))) return this.#say('502 5.5.1 not offered')
    if (this.#transaction !== undefined) return this.#say('503 5.5.1 out of order')
    // The session starts again as if the named client had just connected.
    this.#greeted = false
    await this.#say('220 backend.example.com ESMTP')
  }

  #plan(moment: BackendMoment, normal: string): Plan {
    return this.#planOf(this.#world.rules.at(moment), normal)
  }

  #planOf(rule: ActionRule | undefined, normal: string | undefined): Plan {
    const silent = rule?.do === 'drop' || rule?.do === 'rst' || rule?.do === 'hang'
    const text = silent ? undefined : (rule?.reply ?? normal)
    const end = rule?.do === 'drop' || rule?.do === 'close_after_reply' ? 'close' : undefined
    return {
      text,
      code: Number(text?.slice(0, 3) ?? 0) || 0,
      delay: rule?.ms ?? 0,
      times: rule?.do === 'reply_repeat' ? (rule.times ?? 2) : 1,
      end: rule?.do === 'rst' || rule?.do === 'hang' ? rule.do : end,
    }
  }

  /** `beforeReply` runs when the delay is over and the connection still stands. */
  async #carryOut(plan: Plan, beforeReply?: () => void): Promise<void> {
    if (plan.delay > 0) await new Promise((resolve) => setTimeout(resolve, plan.delay))
    if (this.#mode.at === 'dead') return
    beforeReply?.()
    if (plan.text !== undefined) await this.#say(plan.text, plan.times)
    if (plan.end === undefined) return
    this.#mode = { at: 'dead' }
    this.#world.record.say(this.#number, '-', `${plan.end} by the script`)
    if (plan.end === 'close') this.#socket.destroySoon()
    if (plan.end === 'rst') this.#raw.resetAndDestroy()
  }

  async #answer(moment: BackendMoment, normal: string): Promise<number> {
    const plan = this.#plan(moment, normal)
    await this.#carryOut(plan)
    return plan.code
  }

  async #say(text: string, times = 1): Promise<void> {
    this.#world.record.say(this.#number, '<', `${abridged(text)}${times === 1 ? '' : ` (${times} times)`}`)
    const octets = text.endsWith('\n') ? text : `${text}\r\n`
    if (this.#socket.writable) this.#socket.write(Buffer.from(octets.repeat(times), 'utf8'))
  }
}

function isPositive(code: number): boolean {
  return code >= 200 && code < 300
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64')
}
