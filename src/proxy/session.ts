// One client's session: greeting, the loop from line to reply, and the end.
// Promise: commands and replies stay in one-to-one order; every wait has a deadline; whatever happens, the transaction, the filters and the
// counters are released (P11). What the verbs mean is in verbs.ts, envelope.ts and data.ts; this file does not know.
// Not taken: one class with a method for each verb, as every mail server read for the design has it (1,300 to 7,100 lines).
import type { Duplex } from 'node:stream'
import { type FilterChain, NOTHING, type StageResult } from '../filter/chain.ts'
import { FactBoard, type Logger, type SessionView, tagged } from '../filter/context.ts'
import { brokenLine, type Command, parseCommand } from '../smtp/command.ts'
import type { Offer } from '../smtp/extensions.ts'
import { type Line, LineReader } from '../smtp/line-reader.ts'
import { closing, type Reply, replyText } from '../smtp/reply.ts'
import { Conduct } from './conduct.ts'
import type { ListenerOptions, ProxyDeps } from './deps.ts'
import { LOCAL_PROBLEM, NOT_IMPLEMENTED, STOPPING, TOO_MANY_ERRORS, TOO_SLOW, verdictReply } from './replies.ts'
import { BEFORE_TLS, TLS_FIRST } from './starttls.ts'
import type { SecureFacts } from './tls.ts'
import type { Transaction } from './transaction.ts'
import { type Steps, VERBS } from './verbs.ts'
import { Wire } from './wire.ts'

export interface SessionOptions {
  readonly stream: Duplex
  readonly listener: ListenerOptions
  readonly client: { readonly address: string; readonly port: number }
  readonly deps: ProxyDeps
  /** The stream is under TLS from the start. */
  readonly secure?: SecureFacts | undefined
}

const LINGER = 5000
const ERROR_DELAY = 1000
// A client that ends its lines with LF alone hears why nothing happens, and is sent away: what it says is never taken for commands.
const BARE_LF_PATIENCE = 2000
const BARE_LF = closing(500, [5, 2], 'Lines must end with CR LF, closing')

export class Session implements SessionView {
  readonly id: string
  readonly deps: ProxyDeps
  readonly listener: ListenerOptions
  readonly client: { readonly address: string; readonly port: number }
  readonly chain: FilterChain
  readonly connectFacts = new FactBoard()
  /** What HELO brought, over what the connection brought: forgotten with a new HELO. */
  readonly facts = new FactBoard(this.connectFacts)
  wire: Wire
  lines: LineReader
  /** The connection is under TLS. */
  secure: SecureFacts | undefined
  helo: { readonly verb: 'HELO' | 'EHLO'; readonly name: string } | undefined
  /** What the last EHLO announced. */
  offer: Offer | undefined
  tx: Transaction | undefined
  connectResult: Promise<StageResult> = Promise.resolve(NOTHING)
  heloResult: Promise<StageResult> = Promise.resolve(NOTHING)
  readonly conduct: Conduct
  readonly log: Logger
  transactions = 0
  delivered = 0
  /** A message is coming in or on its way: a stop of the gateway waits for it. */
  busy = false
  #stopping = false
  #firstAsked: StageResult = NOTHING
  readonly #started: number

  constructor(options: SessionOptions) {
    this.deps = options.deps
    this.id = options.deps.newId()
    this.listener = options.listener
    this.client = options.client
    this.chain = options.deps.chain(options.listener.name)
    this.wire = new Wire(options.stream, options.deps.clock)
    this.lines = new LineReader(options.deps.limits.commandLine)
    this.secure = options.secure
    this.conduct = new Conduct(options.deps.limits)
    this.log = tagged(options.deps.log, { session: this.id })
    this.#started = options.deps.clock.now()
  }

  /** Runs the session to its end. Never rejects. */
  async run(): Promise<void> {
    const { events } = this.deps
    events.emit('session-started', { id: this.id, listener: this.listener.name, client: this.client.address })
    this.wire.onGone = () => this.tx?.backend?.abort()
    let end = 'failed'
    try {
      end = (await this.#open()) ?? (await this.#converse())
    } catch (error) {
      this.deps.log.error(
        { session: this.id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) },
        'session failed',
      )
      this.#write(LOCAL_PROBLEM, 'SESSION')
    } finally {
      this.tx?.end({
        outcome: end === 'closed' ? 'client-gone' : 'reset',
        reply: undefined,
        reason: `session ended: ${end}`,
      })
      const closed = this.wire.end(LINGER)
      this.#emitEnd(end)
      // The caps count a connection until it is really gone.
      await closed
    }
  }

  /** Goes on over another stream (TLS). All that was said over the old one is forgotten (RFC 3207 4.2), but for what it counts. */
  continueOn(stream: Duplex, secure: SecureFacts): void {
    const { clock, limits } = this.deps
    const { bytesIn, bytesOut } = this.wire
    this.secure = secure
    this.wire = new Wire(stream, clock)
    this.wire.bytesIn = bytesIn
    this.wire.bytesOut = bytesOut
    this.wire.onGone = () => this.tx?.backend?.abort()
    this.lines = new LineReader(limits.commandLine)
    this.helo = undefined
    this.offer = undefined
    this.facts.clear()
    this.heloResult = Promise.resolve(NOTHING)
  }

  /** The gateway stops: an idle session ends now, one with a message when that is through. */
  stop(): void {
    this.#stopping = true
    if (!this.busy) this.wire.interrupt()
  }

  /** The grace is over: a message that is still coming in is given up. */
  cutOff(): void {
    this.#stopping = true
    this.wire.interrupt()
  }

  /** Sends what was said so far: before every wait. */
  async flush(): Promise<void> {
    await this.wire.flush(this.deps.limits.idle)
  }

  /** A complete reply on the way out. */
  write(r: Reply, stage: string): void {
    this.#write(r, stage)
  }

  async #open(): Promise<string | undefined> {
    const { deps, wire } = this
    wire.onInput = () => this.connectFacts.set('earlyTalker', true)
    const { result, greeting } = this.chain.connect(this, this.connectFacts, this.log)
    this.connectResult = result
    result.then((r) => {
      this.#firstAsked = r
    })
    if (deps.destination.profile() === undefined) {
      try {
        await deps.destination.learn()
      } catch (error) {
        this.log.warn({ error: String(error) }, 'no backend: client turned away')
        return this.#turnAway(closing(421, [3, 2], 'Mail system not ready, try again later'), 'no-backend')
      }
    }
    if (this.chain.holdsGreeting) {
      await greeting
      // What the greeting waited for may have settled the matter; the other filters are not waited for.
      const early = await Promise.race([result, Promise.resolve(undefined)])
      const decided = early?.decided
      if (decided?.verdict.kind === 'hangup') return this.#turnAway(verdictReply(decided, this.id), 'hangup')
    }
    if (this.#stopping) return this.#turnAway(STOPPING, 'stopped')
    wire.onInput = undefined
    // RFC 5321 4.2: the name first, no software version.
    this.#write({ code: 220, lines: [`${deps.hostname} ESMTP`] }, 'CONNECT')
    return undefined
  }

  #turnAway(r: Reply, end: string): string {
    this.#write(r, 'CONNECT')
    return end
  }

  async #converse(): Promise<string> {
    for (;;) {
      const line = await this.#nextLine()
      if (typeof line === 'string') return line
      const end = await this.#answer(line)
      if (end !== undefined) return end
      if (this.#stopping) {
        this.#write(STOPPING, 'SESSION')
        return 'stopped'
      }
    }
  }

  // The deadline is for a whole line: one octet now and then does not extend it.
  async #nextLine(): Promise<Line | string> {
    const { clock, limits } = this.deps
    let line = this.lines.next()
    if (line !== undefined) return line
    await this.flush()
    const deadline = clock.now() + limits.idle
    for (;;) {
      const left = deadline - clock.now()
      const stuck = this.lines.stuckAtLf
      const got = await this.wire.read(stuck ? Math.min(left, BARE_LF_PATIENCE) : left)
      if (got === 'end') return 'closed'
      if (got === 'timeout') {
        this.#write(stuck ? BARE_LF : TOO_SLOW, 'SESSION')
        return stuck ? 'bare-lf' : 'timeout'
      }
      if (got === 'interrupted') {
        this.#write(STOPPING, 'SESSION')
        return 'stopped'
      }
      this.lines.push(got)
      line = this.lines.next()
      if (line !== undefined) return line
    }
  }

  /** Answers one line (or a group of RCPT lines); returns how the session ended, if it did. */
  async #answer(line: Line): Promise<string | undefined> {
    if (line.kind === 'endless') {
      this.#write(closing(500, [5, 2], 'Line without end, closing'), 'SESSION')
      return 'endless-line'
    }
    if (line.kind === 'defect') {
      return this.#send(brokenLine(line.start), '')
    }
    const parsed = parseCommand(line.bytes)
    if (parsed.kind === 'error') return this.#send(parsed.reply, parsed.verb)
    const group = parsed.command.verb === 'RCPT' ? this.#recipientGroup(parsed.command) : [parsed.command]
    return this.#perform(group)
  }

  // Recipients that are waiting behind this one are put to the backend together. No more of them than may still be taken, so that the limit
  // holds whatever the backend answers.
  #recipientGroup(first: Command): Command[] {
    const group = [first]
    const room = this.deps.limits.recipients - (this.tx?.accepted.length ?? 0)
    while (group.length < room) {
      const line = this.lines.peek()
      if (line?.kind !== 'line') break
      const parsed = parseCommand(line.bytes)
      if (parsed.kind !== 'command' || parsed.command.verb !== 'RCPT') break
      this.lines.next()
      group.push(parsed.command)
    }
    return group
  }

  // check -> ask -> proceed. Of a group all are checked and asked about in order, then all proceed, then all are answered in order.
  async #perform(group: readonly Command[]): Promise<string | undefined> {
    const next: (Reply | Steps)[] = []
    for (const command of group) {
      const checked = this.#check(command)
      if ('code' in checked || checked.ask === undefined) {
        next.push(checked)
        continue
      }
      await this.flush()
      next.push((await checked.ask()) ?? checked)
    }
    const replies = next.map((step) => ('code' in step ? step : step.proceed()))
    // Where an earlier reply ends the session, nobody waits for the later ones any more.
    for (const pending of replies) if (pending instanceof Promise) pending.catch(() => {})
    for (const [i, command] of group.entries()) {
      const pending = replies[i]
      if (pending instanceof Promise) await this.flush()
      const r = await pending
      if (r === undefined) return this.wire.gone ? 'closed' : 'gave-up'
      const end = (await this.#send(r, command.verb)) ?? (await this.#afterwards(next[i]))
      if (end !== undefined) return end
    }
    return undefined
  }

  #check(command: Command): Reply | Steps {
    if (this.listener.tls?.mode === 'required' && this.secure === undefined && !BEFORE_TLS.has(command.verb))
      return TLS_FIRST
    return VERBS.get(command.verb)?.check(this, command) ?? NOT_IMPLEMENTED
  }

  async #afterwards(step: Reply | Steps | undefined): Promise<string | undefined> {
    if (step === undefined || 'code' in step || step.after === undefined) return undefined
    await this.flush()
    return step.after()
  }

  async #send(r: Reply, verb: string): Promise<string | undefined> {
    const judged = this.conduct.answered(r, verb)
    if (r.close) {
      this.#write(r, verb)
      return verb === 'QUIT' ? 'quit' : 'hung-up'
    }
    if (judged === 'too-much') {
      this.#write(TOO_MANY_ERRORS, verb)
      return 'errors'
    }
    if (judged === 'slow-down') await this.#delay(ERROR_DELAY)
    this.#write(r, verb)
    return undefined
  }

  async #delay(milliseconds: number): Promise<void> {
    await this.flush()
    await new Promise<void>((resolve) => {
      this.deps.clock.timer(milliseconds, resolve)
    })
  }

  #write(r: Reply, stage: string): void {
    this.wire.write(replyText(r))
    this.deps.events.emit('replied', { stage: stage === '' ? 'UNKNOWN' : stage, code: r.code })
  }

  #emitEnd(end: string): void {
    const { wire } = this
    this.deps.events.emit('session-ended', {
      id: this.id,
      listener: this.listener.name,
      client: this.client.address,
      helo: this.helo?.name ?? '',
      end,
      commands: this.conduct.commands,
      errors: this.conduct.errors,
      transactions: this.transactions,
      delivered: this.delivered,
      bytesIn: wire.bytesIn,
      bytesOut: wire.bytesOut,
      milliseconds: this.deps.clock.now() - this.#started,
      asked: this.#firstAsked.asked,
    })
  }
}
