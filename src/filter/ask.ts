// Asking one filter once: deadline, failures, and what its answer counts for.
// Promise (P6): whatever a filter does (throws, never answers, answers late, twice or nonsense), exactly one Answered comes back, in bounded
// time, without a 5xx of its own; a failure leaves `<NAME>_UNAVAILABLE`, an event and a log line. What comes after the deadline has no
// effect, facts included.
import type { Clock, Timer } from '../net/clock.ts'
import type { AskedFilter, FilterAnswer } from '../observe/events.ts'
import { reply } from '../smtp/reply.ts'
import type { FactBoard, FactName, Facts, Logger } from './context.ts'
import type { Answer, Filter, FilterIo, Finding, HeaderField, Opinion, Stage, Verdict } from './filter.ts'
import { opinionDefect } from './opinion.ts'

export interface InstalledFilter {
  readonly name: string
  readonly filter: Filter
  readonly mode: 'enforce' | 'shadow'
  /** Milliseconds for one answer. */
  readonly timeout: number
  readonly onFailure: 'skip' | 'defer'
  readonly always: boolean
  readonly holdsGreeting: boolean
  /** Names of the listeners it runs on; undefined: all. */
  readonly listeners: ReadonlySet<string> | undefined
  readonly reads: readonly FactName[]
  readonly writes: readonly FactName[]
}

/** What one filter said, with its effect: a filter in shadow mode has none. */
export interface Answered {
  readonly installed: InstalledFilter
  readonly findings: readonly Finding[]
  readonly headers: readonly HeaderField[]
  readonly verdict: Verdict | undefined
  readonly asked: AskedFilter
}

export interface Question {
  readonly installed: InstalledFilter
  readonly stage: Stage
  readonly facts: FactBoard
  readonly log: Logger
  readonly clock: Clock
  /** Monotonic time after which nobody waits, whatever the filter's own time-out is. */
  readonly deadline?: number
  readonly recipient?: string
  /** Aborted when the answer does not matter any more. */
  readonly cancelled?: AbortSignal
}

type Failure = NonNullable<AskedFilter['failure']>

// One object a question. The AbortController is made only for filters that look at the signal: most do not.
class Io implements FilterIo {
  readonly log: Logger
  readonly #question: Question
  #controller: AbortController | undefined
  #over = false

  constructor(question: Question) {
    this.#question = question
    this.log = question.log
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController()
    if (this.#over) this.#controller.abort()
    return this.#controller.signal
  }

  set<K extends FactName>(name: K, value: Facts[K]): void {
    const { installed, facts } = this.#question
    if (!installed.writes.includes(name))
      throw new Error(`filter ${installed.name} does not declare that it writes '${name}'`)
    // Shadow means: no effect, not through others either.
    if (!this.#over && installed.mode === 'enforce') facts.set(name, value)
  }

  end(abort: boolean): void {
    this.#over = true
    if (abort) this.#controller?.abort()
  }
}

/** Asks; never rejects. */
export async function ask(question: Question, call: (io: FilterIo) => Answer): Promise<Answered> {
  const { clock, installed, cancelled } = question
  // The matter was settled while this one waited for a fact.
  if (cancelled?.aborted) return answered(question, {}, 'cancelled', 0)
  const started = clock.now()
  const io = new Io(question)
  let opinion: unknown
  let failure: Failure | 'cancelled' | undefined
  try {
    const answer: unknown = call(io)
    opinion = isThenable(answer) ? await settle(question, io, answer) : answer
    const defect = opinionDefect(opinion)
    if (defect !== undefined) failure = { kind: 'nonsense', message: defect }
  } catch (error) {
    if (error === CANCELLED) failure = 'cancelled'
    else if (error === TIMEOUT)
      failure = { kind: 'timeout', message: `no answer within ${Math.round(clock.now() - started)} ms` }
    else failure = { kind: 'threw', message: thrownText(error) }
  }
  io.end(true)
  const outcome = outcomeOf(installed, opinion as Opinion | undefined, failure)
  return answered(question, outcome, failure, clock.now() - started)
}

const TIMEOUT = Symbol('timeout')
const CANCELLED = Symbol('cancelled')

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'
}

// The first of: the answer, the deadline, nobody waits any more. A promise settles once, so a filter that answers twice is heard once.
function settle(question: Question, io: Io, answer: PromiseLike<unknown>): Promise<unknown> {
  const { clock, installed, deadline, cancelled } = question
  const left = deadline === undefined ? installed.timeout : Math.min(installed.timeout, deadline - clock.now())
  return new Promise((resolve, reject) => {
    let timer: Timer | undefined
    const over = (how: () => void) => {
      timer?.clear()
      cancelled?.removeEventListener('abort', onCancel)
      io.end(false)
      how()
    }
    const onCancel = () => over(() => reject(CANCELLED))
    timer = clock.timer(Math.max(0, left), () => over(() => reject(TIMEOUT)))
    if (cancelled?.aborted) onCancel()
    else cancelled?.addEventListener('abort', onCancel)
    // Promise.resolve, since a thenable of somebody's own may throw from `then`, or answer with a promise that never settles.
    Promise.resolve(answer).then(
      (value) => over(() => resolve(value)),
      (error: unknown) => over(() => reject(error)),
    )
  })
}

/** What was thrown, as a text. Anything can be thrown, also what cannot be made one. */
export function thrownText(thrown: unknown): string {
  try {
    return String(thrown instanceof Error ? thrown.message : thrown)
  } catch {
    return 'something that is no error'
  }
}

function failed(installed: InstalledFilter, failure: Failure): Opinion {
  const findings = [
    { symbol: `${installed.name.toUpperCase()}_UNAVAILABLE`, detail: `${failure.kind}: ${failure.message}` },
  ]
  if (installed.onFailure === 'skip') return { findings }
  const reason = `${installed.name} failed (${failure.kind}: ${failure.message}) and is set to on_failure: defer`
  return { findings, verdict: { kind: 'defer', reason, reply: reply(451, [3, 0], 'Local problem, try again later') } }
}

function outcomeOf(
  installed: InstalledFilter,
  opinion: Opinion | undefined,
  failure: Failure | 'cancelled' | undefined,
): Opinion {
  if (failure === 'cancelled') return {}
  return failure === undefined ? (opinion ?? {}) : failed(installed, failure)
}

function answered(
  question: Question,
  opinion: Opinion,
  failure: Failure | 'cancelled' | undefined,
  milliseconds: number,
): Answered {
  const { installed, stage, recipient } = question
  const findings = opinion.findings ?? []
  const shadow = installed.mode === 'shadow'
  const reason = opinion.verdict?.reason
  return {
    installed,
    findings: shadow ? [] : findings,
    headers: shadow ? [] : (opinion.headers ?? []),
    verdict: shadow ? undefined : opinion.verdict,
    asked: {
      filter: installed.name,
      stage,
      answer: kindOf(opinion, failure),
      milliseconds,
      symbols: findings.map((f) => f.symbol),
      shadow,
      ...(reason === undefined ? {} : { reason }),
      ...(failure === undefined || failure === 'cancelled' ? {} : { failure }),
      ...(recipient === undefined ? {} : { recipient }),
    },
  }
}

function kindOf(opinion: Opinion, failure: Failure | 'cancelled' | undefined): FilterAnswer {
  if (failure === 'cancelled') return 'cancelled'
  if (failure !== undefined) return 'failed'
  return (
    opinion.verdict?.kind ?? (opinion.findings === undefined || opinion.findings.length === 0 ? 'nothing' : 'findings')
  )
}
