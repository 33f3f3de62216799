// The loop of a session: from octets to a line, from a line to a command, from a command to one reply, in order.
// Promise: commands and replies stay in one-to-one order, and every wait has a deadline. What the verbs mean is in verbs.ts and the files it
// names; this file does not know.
import { brokenLine, type Command, parseCommand } from '../smtp/command.ts'
import type { Line } from '../smtp/line-reader.ts'
import { closing, type Reply } from '../smtp/reply.ts'
import { readLine } from './line-input.ts'
import { NOT_IMPLEMENTED, STOPPING, TOO_MANY_ERRORS } from './replies.ts'
import type { Session } from './session.ts'
import { BEFORE_TLS, TLS_FIRST, TLS_FIRST_CLOSING } from './starttls.ts'
import { type Steps, VERBS } from './verbs.ts'

const ERROR_DELAY = 1000
export class Conversation {
  readonly #session: Session

  constructor(session: Session) {
    this.#session = session
  }

  /** Talks until the session is over; returns how it ended. */
  async run(): Promise<string> {
    for (;;) {
      const line = await readLine(this.#session)
      if (line.kind === 'over') {
        if (line.reply !== undefined) this.#session.write(line.reply, 'SESSION')
        return line.how
      }
      const end = await this.#answer(line)
      if (end !== undefined) return end
      if (this.#session.stopping) {
        this.#session.write(STOPPING, 'SESSION')
        return 'stopped'
      }
    }
  }

  /** Answers one line (or a group of RCPT lines); returns how the session ended, if it did. */
  async #answer(line: Line): Promise<string | undefined> {
    if (line.kind === 'endless') {
      this.#session.write(closing(500, [5, 2], 'Line without end, closing'), 'SESSION')
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
    const room = this.#session.deps.limits.recipients - (this.#session.tx?.accepted.length ?? 0)
    while (group.length < room) {
      const line = this.#session.lines.peek()
      if (line?.kind !== 'line') break
      const parsed = parseCommand(line.bytes)
      if (parsed.kind !== 'command' || parsed.command.verb !== 'RCPT') break
      this.#session.lines.next()
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
      await this.#session.flush()
      next.push((await checked.ask()) ?? checked)
    }
    const replies = next.map((step) => ('code' in step ? step : step.proceed()))
    // Where an earlier reply ends the session, nobody waits for the later ones any more.
    for (const pending of replies) if (pending instanceof Promise) pending.catch(() => {})
    for (const [i, command] of group.entries()) {
      const pending = replies[i]
      if (pending instanceof Promise) await this.#session.flush()
      const r = await pending
      if (r === undefined) return this.#session.wire.gone ? 'closed' : 'gave-up'
      const end = (await this.#send(r, command.verb)) ?? (await this.#afterwards(next[i]))
      if (end !== undefined) return end
    }
    return undefined
  }

  #check(command: Command): Reply | Steps {
    if (
      this.#session.listener.tls?.mode === 'required' &&
      this.#session.secure === undefined &&
      !BEFORE_TLS.has(command.verb)
    )
      return command.verb === 'BDAT' ? TLS_FIRST_CLOSING : TLS_FIRST
    return VERBS.get(command.verb)?.check(this.#session, command) ?? NOT_IMPLEMENTED
  }

  async #afterwards(step: Reply | Steps | undefined): Promise<string | undefined> {
    if (step === undefined || 'code' in step || step.after === undefined) return undefined
    await this.#session.flush()
    return step.after()
  }

  async #send(r: Reply, verb: string): Promise<string | undefined> {
    const judged = this.#session.conduct.answered(r, verb)
    if (r.close) {
      this.#session.write(r, verb)
      return verb === 'QUIT' ? 'quit' : 'hung-up'
    }
    if (judged === 'too-much') {
      this.#session.write(TOO_MANY_ERRORS, verb)
      return 'errors'
    }
    if (judged === 'slow-down') await this.#delay(ERROR_DELAY)
    this.#session.write(r, verb)
    return undefined
  }

  async #delay(milliseconds: number): Promise<void> {
    await this.#session.flush()
    await new Promise<void>((resolve) => {
      this.#session.deps.clock.timer(milliseconds, resolve)
    })
  }
}
