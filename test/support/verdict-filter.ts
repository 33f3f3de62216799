// A plugin that does what the message says: the suite forces the outcomes it wants to see with a line `X-Test-Verdict: …` anywhere in the
// message. Never part of the product: whoever can send mail through it decides about his own mail.
//   reject, tempfail     the hard verdicts
//   discard, quarantine  refused with a reason: there is no silent discard, and a quarantine does not exist yet
//   slow:<ms>            answers after so long, and then says nothing
import { setTimeout as sleep } from 'node:timers/promises'
import { type Answer, defineFilter, type FilterIo, type Opinion } from '../../src/filter/filter.ts'

interface Options {
  /** Every message is a failure of the filter, as if its scanner were away. */
  readonly down: boolean
  /** No message is ever answered; only the deadline ends the wait. */
  readonly hang: boolean
  /** The greeting waits so many milliseconds. */
  readonly greetDelay: number
}

const COMMON = new Set(['enabled', 'mode', 'timeout', 'on_failure', 'listeners'])

function parseOptions(raw: unknown): Options {
  const options: Record<string, unknown> = typeof raw === 'object' && raw !== null ? { ...raw } : {}
  const { down = false, hang = false, greet_delay: greetDelay = 0, ...others } = options
  const unknown = Object.keys(others).find((name) => !COMMON.has(name))
  if (unknown !== undefined) throw new Error(`unknown option ${unknown}`)
  if (typeof down !== 'boolean' || typeof hang !== 'boolean') throw new Error('down and hang are true or false')
  if (typeof greetDelay !== 'number' || greetDelay < 0) throw new Error('greet_delay is a number of milliseconds')
  return { down, hang, greetDelay }
}

const VERDICT = /^X-Test-Verdict: *([a-z]+)(?::(\d+))?\s*$/im

/** The line may stand in the header or in the body. */
export function forcedVerdict(message: Buffer): { readonly what: string; readonly milliseconds: number } | undefined {
  const found = VERDICT.exec(message.toString('latin1'))
  return found?.[1] === undefined ? undefined : { what: found[1].toLowerCase(), milliseconds: Number(found[2] ?? 0) }
}

async function answerFor(message: Buffer, io: FilterIo): Promise<Opinion | undefined> {
  const forced = forcedVerdict(message)
  switch (forced?.what) {
    case 'reject':
    case 'discard':
    case 'quarantine':
      return { verdict: { kind: 'reject', reason: `forced by the test: ${forced.what}` } }
    case 'tempfail':
      return { verdict: { kind: 'defer', reason: 'forced by the test: tempfail' } }
    case 'slow':
      await sleep(forced.milliseconds, undefined, { signal: io.signal })
      return undefined
    default:
      return undefined
  }
}

export default defineFilter<Options>({
  name: 'test_verdict',
  options: { parse: parseOptions },
  holdsGreeting: true,
  create(options) {
    return {
      connect(_session, io): Answer {
        if (options.greetDelay === 0) return undefined
        return sleep(options.greetDelay, undefined, { signal: io.signal })
      },
      async message(_transaction, message, io): Promise<Opinion | undefined> {
        if (options.down) throw new Error('the scanner of the test is down')
        if (options.hang) await new Promise((_, reject) => io.signal.addEventListener('abort', reject, { once: true }))
        return answerFor(await message.bytes(), io)
      },
    }
  },
})
