// What each step of a case does. One function a step, in one table: a step that has no function here does not compile.
// A step that fails throws a StepFailure with what was expected and what came.
import { setTimeout as sleep } from 'node:timers/promises'
import type { HarnessEvents } from './backend-record.ts'
import { type Step, show } from './case-file.ts'
import type { Connection } from './client.ts'
import type { StepArgument, StepKind } from './format.ts'
import type { Gateway } from './gateway.ts'
import { generate } from './generate.ts'
import type { Reply } from './reply-reader.ts'

export interface Dialogue {
  readonly gateway: Gateway
  readonly events: HarnessEvents
  /** Opens a connection to the listener under test. */
  open(source?: string): Promise<Connection>
  /** Whether a new connection is greeted. */
  accepts(within: number): Promise<boolean>
}

export class StepFailure extends Error {
  readonly expected: string
  readonly got: string

  constructor(expected: string, got: string) {
    super(`expected ${expected}, got ${got}`)
    this.expected = expected
    this.got = got
  }
}

const DEFAULT_TIMEOUT = 5000

type Handlers = { readonly [K in StepKind]: (argument: StepArgument<K>, timeout: number) => Promise<void> | void }

/** Runs the steps of one case; holds the connections it opened until `end`. */
export class StepRunner {
  readonly #dialogue: Dialogue
  readonly #opened: Connection[] = []
  #current: Connection | undefined
  #kept = false
  #lastReply: Reply | undefined

  constructor(dialogue: Dialogue) {
    this.#dialogue = dialogue
  }

  async run(step: Step): Promise<void> {
    const onlyIf = step.onlyIf ?? (step.kind === 'starttls' || step.kind === 'tls' ? step.argument.only_if : undefined)
    if (onlyIf !== undefined && !onlyIf.test(this.#lastReply?.text ?? '')) return
    // The first connection is made by the first step that is not `reconnect`: `reconnect: {n: 5}` opens five, not six.
    if (this.#current === undefined && step.kind !== 'reconnect') await this.#connect(undefined)
    const handler = this.#handlers[step.kind] as (argument: unknown, timeout: number) => Promise<void> | void
    try {
      await handler(step.argument, step.timeoutMs ?? DEFAULT_TIMEOUT)
    } catch (error) {
      if (!(step.mayFail && error instanceof StepFailure)) throw error
    }
  }

  /** Closes whatever is still open. */
  end(): void {
    for (const connection of this.#opened) connection.destroy()
  }

  readonly #handlers: Handlers = {
    send: (text, timeout) => this.#write(Buffer.from(text, 'utf8'), timeout),
    send_hex: (octets, timeout) => this.#write(octets, timeout),
    send_repeat: ({ data, times }, timeout) => this.#sendRepeat(Buffer.from(data, 'utf8'), times, timeout),
    send_chunks: async ({ data, size, gap_ms }, timeout) => {
      const octets = Buffer.from(data, 'utf8')
      for (let at = 0; at < octets.length; at += size) {
        if (at > 0) await sleep(gap_ms)
        await this.#write(octets.subarray(at, at + size), timeout)
      }
    },
    send_generated: async (what, timeout) => this.#write(await generate(what), timeout),
    expect: async (pattern, timeout) => {
      await this.#expect(pattern, timeout)
    },
    expect_each: async (list, timeout) => {
      for (const pattern of list) await this.#expect(pattern, timeout)
    },
    expect_each_n: async ({ n, re }, timeout) => {
      for (let i = 0; i < n; i++) await this.#expect(re, timeout)
    },
    expect_each_until_close: async ({ re, last }, timeout) => {
      for (;;) {
        const reply = await this.#reply(`${re} … ${last}`, timeout)
        if (last.test(reply.text)) break
        if (!re.test(reply.text)) throw new StepFailure(`${re} or ${last}`, quote(reply))
      }
      await this.#expectClose(timeout)
    },
    expect_or_close: async (pattern, timeout) => {
      const reply = await this.#connection().nextReply(timeout)
      if (reply === 'closed') return
      if (reply === 'timeout') throw new StepFailure(`${pattern} or close`, `nothing for ${timeout} ms`)
      this.#lastReply = reply
      if (!pattern.test(reply.text)) throw new StepFailure(`${pattern} or close`, quote(reply))
    },
    expect_close: (_, timeout) => this.#expectClose(timeout),
    expect_silence_ms: async (milliseconds) => {
      const connection = this.#connection()
      if (await connection.silent(milliseconds)) return
      throw new StepFailure(`silence for ${milliseconds} ms`, `"${show(connection.unread)}"`)
    },
    expect_lines: async ({ all, none }, timeout) => {
      const reply = await this.#reply('a reply of several lines', timeout)
      const missing = all.find((re) => !reply.lines.some((line) => re.test(line)))
      if (missing !== undefined) throw new StepFailure(`a line ${missing}`, quote(reply))
      const extra = none.find((re) => reply.lines.some((line) => re.test(line)))
      if (extra !== undefined) throw new StepFailure(`no line ${extra}`, quote(reply))
    },
    expect_eventually: async ({ event, within_ms }) => {
      const { events, accepts } = this.#dialogue
      const happened = await (event === 'accept' ? accepts(within_ms) : events.wait(event, within_ms))
      if (!happened) throw new StepFailure(`${event} within ${within_ms} ms`, 'nothing of the kind')
    },
    starttls: (options, timeout) => this.#tls(options, timeout),
    tls: (options, timeout) => this.#tls(options, timeout),
    close: () => this.#connection().close(),
    rst: () => this.#connection().reset(),
    half_close: () => this.#connection().halfClose(),
    wait_ms: async (milliseconds) => {
      await sleep(milliseconds)
    },
    signal: (name) => this.#dialogue.gateway.signal(name),
    reconnect: async ({ n, keep, source }) => {
      for (let i = 0; i < n; i++) {
        // A connection that is kept stays open beside the new one.
        if (!this.#kept && this.#current !== undefined && !keep) await this.#disconnect(this.#current)
        await this.#connect(source)
        this.#kept = keep
      }
    },
  }

  async #connect(source: string | undefined): Promise<void> {
    try {
      this.#current = await this.#dialogue.open(source)
    } catch (error) {
      throw new StepFailure('a connection', String(error))
    }
    this.#opened.push(this.#current)
    this.#lastReply = undefined
  }

  async #disconnect(connection: Connection): Promise<void> {
    if (connection.closed) return
    connection.close()
    // The gateway should hear of the end before it hears of the next connection.
    await sleep(20)
  }

  #connection(): Connection {
    if (this.#current === undefined) throw new StepFailure('a connection', 'none')
    return this.#current
  }

  async #write(octets: Buffer, timeout: number): Promise<void> {
    // Writing to a closed connection is no failure: what the case expects next will tell.
    if (await this.#connection().write(octets, timeout)) return
    throw new StepFailure('the gateway to take what is sent', `nothing taken for ${timeout} ms`)
  }

  async #sendRepeat(unit: Buffer, times: number, timeout: number): Promise<void> {
    const perBlock = Math.max(1, Math.floor((1024 * 1024) / Math.max(1, unit.length)))
    for (let left = times; left > 0; left -= perBlock) {
      await this.#write(Buffer.concat(new Array<Buffer>(Math.min(left, perBlock)).fill(unit)), timeout)
    }
  }

  async #reply(expected: string, timeout: number): Promise<Reply> {
    const reply = await this.#connection().nextReply(timeout)
    if (reply === 'closed') throw new StepFailure(expected, 'the connection closed')
    if (reply === 'timeout') throw new StepFailure(expected, `nothing for ${timeout} ms`)
    this.#lastReply = reply
    return reply
  }

  async #expect(pattern: RegExp, timeout: number): Promise<void> {
    const reply = await this.#reply(String(pattern), timeout)
    if (!pattern.test(reply.text)) throw new StepFailure(String(pattern), quote(reply))
  }

  async #expectClose(timeout: number): Promise<void> {
    const connection = this.#connection()
    if (!(await connection.waitForClose(timeout))) throw new StepFailure('a close', `still open after ${timeout} ms`)
    for (;;) {
      const reply = await connection.nextReply(0)
      if (typeof reply === 'string') return
      // RFC 5321 3.8: 421 may be said at any time before a close; anything else should have been asked for.
      if (reply.code !== 421) throw new StepFailure('a close', quote(reply))
    }
  }

  async #tls(options: StepArgument<'tls'>, timeout: number): Promise<void> {
    const connection = this.#connection()
    if (connection.closed) {
      if (options.result !== 'ok') return
      throw new StepFailure('a TLS handshake', 'the connection closed')
    }
    if (connection.unread !== '' && options.result !== 'fail') {
      throw new StepFailure('nothing in clear behind the reply to STARTTLS', `"${show(connection.unread)}"`)
    }
    const result = await connection.startTls(options, timeout)
    if (result.ok && options.result === 'fail') throw new StepFailure('the handshake to fail', 'TLS')
    if (!result.ok && options.result === 'ok') throw new StepFailure('a TLS handshake', result.why)
    if (
      result.ok &&
      options.peer_san !== undefined &&
      !result.names.some((name) => name === `DNS:${options.peer_san}`)
    ) {
      throw new StepFailure(`a certificate for ${options.peer_san}`, result.names.join(', '))
    }
  }
}

function quote(reply: Reply): string {
  return `"${show(reply.text)}"`
}
