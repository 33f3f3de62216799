// The filters of a listener, stage by stage.
// Promise (P7): answers count in the order of the filter table, never in the order they came. The filters of connect, helo, mail and message
// run side by side, since they mostly wait for somebody; those of rcpt and data one after the other, so that a filter that takes tokens is
// not asked about a recipient that one before it refused. A filter that reads a fact starts when its writer has answered.
// After a trust only filters marked `always` count; after a hard verdict nothing does, and who still works is told by its signal.
import type { Clock } from '../net/clock.ts'
import type { AskedFilter, EventBus, TransactionOutcome } from '../observe/events.ts'
import { addressText } from '../smtp/address.ts'
import type { Reply } from '../smtp/reply.ts'
import { type Answered, ask, type InstalledFilter, type Question, thrownText } from './ask.ts'
import type { FactBoard, FactName, Logger, MessageView, Recipient, SessionView, TransactionView } from './context.ts'
import type { Answer, FilterIo, HeaderField, Stage, Verdict } from './filter.ts'
import type { Found } from './score.ts'

export interface ChainDeps {
  readonly filters: readonly InstalledFilter[]
  readonly clock: Clock
  readonly log: Logger
  readonly events: EventBus
}

/** A verdict that ends the matter, with the filter it came from. */
export interface Decided {
  readonly filter: string
  readonly stage: Stage
  readonly verdict: Exclude<Verdict, { kind: 'trust' }>
}

export interface StageResult {
  readonly found: readonly Found[]
  readonly headers: readonly HeaderField[]
  readonly asked: readonly AskedFilter[]
  readonly decided: Decided | undefined
  readonly trusted: boolean
}

export const NOTHING: StageResult = { found: [], headers: [], asked: [], decided: undefined, trusted: false }

type Call = (installed: InstalledFilter, io: FilterIo) => Answer

interface StageRequest {
  readonly stage: Stage
  readonly log: Logger
  readonly facts: FactBoard
  readonly trusted: boolean
  readonly deadline?: number
  readonly recipient?: string
  /** Aborted from outside when nobody needs the answers any more. */
  readonly cancel?: AbortController
  readonly call: Call
}

/** The chain of one listener. Stateless: what a session or a transaction has collected is the caller's. */
export class FilterChain {
  readonly #deps: ChainDeps
  readonly #filters: readonly InstalledFilter[]
  readonly #byStage = new Map<Stage, readonly InstalledFilter[]>()

  constructor(deps: ChainDeps, listener: string) {
    this.#deps = deps
    this.#filters = deps.filters.filter((f) => f.listeners === undefined || f.listeners.has(listener))
  }

  /** Starts the connect filters. `greeting` settles when those that hold the greeting have answered, `result` when all have. */
  connect(
    session: SessionView,
    facts: FactBoard,
    log: Logger,
  ): { result: Promise<StageResult>; greeting: Promise<unknown>; cancel: () => void } {
    const asking = new Map<InstalledFilter, Promise<unknown>>()
    const call: Call = (f, io) => f.filter.connect?.(session, io)
    const cancel = new AbortController()
    const result = this.#sideBySide({ stage: 'connect', log, facts, trusted: false, cancel, call }, asking)
    const holders = [...asking].filter(([f]) => f.holdsGreeting).map(([, answer]) => answer)
    return { result, greeting: Promise.all(holders), cancel: () => cancel.abort() }
  }

  get holdsGreeting(): boolean {
    return this.#of('connect').some((f) => f.holdsGreeting)
  }

  helo(session: SessionView, facts: FactBoard, log: Logger): Promise<StageResult> {
    return this.#sideBySide({
      stage: 'helo',
      log,
      facts,
      trusted: false,
      call: (f, io) => f.filter.helo?.(session, io),
    })
  }

  mail(tx: TransactionView, facts: FactBoard, context: { log: Logger; trusted: boolean }): Promise<StageResult> {
    return this.#sideBySide({ stage: 'mail', facts, ...context, call: (f, io) => f.filter.mail?.(tx, io) })
  }

  rcpt(
    tx: TransactionView,
    facts: FactBoard,
    context: { log: Logger; trusted: boolean; rcpt: Recipient },
  ): Promise<StageResult> {
    const { rcpt, log, trusted } = context
    const recipient = addressText(rcpt.address)
    return this.#inTurn({
      stage: 'rcpt',
      facts,
      log,
      trusted,
      recipient,
      call: (f, io) => f.filter.rcpt?.(tx, rcpt, io),
    })
  }

  data(tx: TransactionView, facts: FactBoard, context: { log: Logger; trusted: boolean }): Promise<StageResult> {
    return this.#inTurn({ stage: 'data', facts, ...context, call: (f, io) => f.filter.data?.(tx, io) })
  }

  message(
    tx: TransactionView,
    facts: FactBoard,
    context: { log: Logger; trusted: boolean; message: MessageView; deadline: number },
  ): Promise<StageResult> {
    const { message, ...rest } = context
    return this.#sideBySide({ stage: 'message', facts, ...rest, call: (f, io) => f.filter.message?.(tx, message, io) })
  }

  recipientAnswered(tx: TransactionView, rcpt: Recipient, reply: Reply): void {
    this.#tell((f) => f.filter.recipientAnswered?.(tx, rcpt, reply), 'recipientAnswered')
  }

  ended(tx: TransactionView, outcome: TransactionOutcome): void {
    this.#tell((f) => f.filter.ended?.(tx, outcome), 'ended')
  }

  #of(stage: Stage): readonly InstalledFilter[] {
    let filters = this.#byStage.get(stage)
    if (filters === undefined) {
      filters = this.#filters.filter((f) => f.filter[stage] !== undefined)
      this.#byStage.set(stage, filters)
    }
    return filters
  }

  async #sideBySide(
    request: StageRequest,
    asking = new Map<InstalledFilter, Promise<unknown>>(),
  ): Promise<StageResult> {
    const filters = this.#of(request.stage).filter((f) => !request.trusted || f.always)
    if (filters.length === 0) return { ...NOTHING, trusted: request.trusted }
    const cancel = request.cancel ?? new AbortController()
    const answers: Promise<Answered>[] = []
    let unanswered = 0
    for (const installed of filters) {
      const writers = [...asking].filter(([f]) => installed.reads.some((fact) => f.writes.includes(fact)))
      const question = this.#question(request, installed, cancel.signal)
      const start = () => ask(question, (io) => request.call(installed, io))
      const answer = writers.length === 0 ? start() : Promise.all(writers.map(([, a]) => a)).then(start)
      unanswered++
      const counted = answer.finally(() => {
        unanswered--
      })
      asking.set(installed, counted)
      answers.push(counted)
    }
    const tally = new Tally(request.stage, request.trusted)
    const overtaken: Promise<Answered>[] = []
    for (const [i, installed] of filters.entries()) {
      const answer = answers[i]
      if (answer === undefined) continue
      if (tally.decided !== undefined || tally.skips(installed)) overtaken.push(answer)
      else this.#record(tally, await answer, request.log)
    }
    // Aborting is dear (it makes an error with a stack): only where somebody still works.
    if (unanswered > 0) cancel.abort()
    // They were asked, so they stand in the record; what they said has no effect. Whoever still worked is cancelled and answers now.
    for (const answer of overtaken) this.#note(tally, await answer, request.log)
    return tally.result()
  }

  async #inTurn(request: StageRequest): Promise<StageResult> {
    const filters = this.#of(request.stage)
    if (filters.length === 0) return { ...NOTHING, trusted: request.trusted }
    const tally = new Tally(request.stage, request.trusted)
    for (const installed of filters) {
      if (tally.skips(installed)) continue
      const answer = await ask(this.#question(request, installed), (io) => request.call(installed, io))
      this.#record(tally, answer, request.log)
      if (tally.decided !== undefined) break
    }
    return tally.result()
  }

  #question(request: StageRequest, installed: InstalledFilter, cancelled?: AbortSignal): Question {
    const { stage, facts, log, deadline, recipient } = request
    return {
      installed,
      stage,
      facts,
      log,
      clock: this.#deps.clock,
      ...(deadline === undefined ? {} : { deadline }),
      ...(recipient === undefined ? {} : { recipient }),
      ...(cancelled === undefined ? {} : { cancelled }),
    }
  }

  #record(tally: Tally, answer: Answered, log: Logger): void {
    tally.add(answer)
    this.#note(tally, answer, log)
  }

  #note(tally: Tally, answer: Answered, log: Logger): void {
    tally.note(answer.asked)
    const { failure, filter, stage } = answer.asked
    if (failure !== undefined) {
      log.warn({ filter, stage, failure: failure.kind, error: failure.message }, 'filter unavailable')
    }
    this.#deps.events.emit('filter-asked', answer.asked)
  }

  // Nobody waits for those that are told. An async function fits the contract too: its rejection must not end the process.
  #tell(tell: (f: InstalledFilter) => unknown, what: string): void {
    for (const installed of this.#filters) {
      const failed = (error: unknown) =>
        this.#deps.log.warn({ filter: installed.name, error: thrownText(error) }, `filter threw in ${what}`)
      try {
        const told = tell(installed)
        if (told !== undefined) Promise.resolve(told).catch(failed)
      } catch (error) {
        failed(error)
      }
    }
  }
}

// Adds answers up in table order.
class Tally {
  decided: Decided | undefined
  readonly #stage: Stage
  readonly #found: Found[] = []
  readonly #headers: HeaderField[] = []
  readonly #asked: AskedFilter[] = []
  #trusted: boolean

  constructor(stage: Stage, trusted: boolean) {
    this.#stage = stage
    this.#trusted = trusted
  }

  skips(installed: InstalledFilter): boolean {
    return this.#trusted && !installed.always
  }

  add(answer: Answered): void {
    const filter = answer.installed.name
    for (const finding of answer.findings) this.#found.push({ filter, finding })
    this.#headers.push(...answer.headers)
    const { verdict } = answer
    if (verdict?.kind === 'trust') this.#trusted = true
    else if (verdict !== undefined) this.decided = { filter, stage: this.#stage, verdict }
  }

  note(asked: AskedFilter): void {
    this.#asked.push(asked)
  }

  result(): StageResult {
    return {
      found: this.#found,
      headers: this.#headers,
      asked: this.#asked,
      decided: this.decided,
      trusted: this.#trusted,
    }
  }
}

/** What is wrong with the order of facts in a filter table: a reader before its writer, two writers of one fact. */
export function factDefects(filters: readonly Pick<InstalledFilter, 'name' | 'reads' | 'writes'>[]): string[] {
  const defects: string[] = []
  const writers = new Map<FactName, string>([['earlyTalker', 'the session']])
  for (const filter of filters) {
    for (const fact of filter.reads) {
      if (writers.has(fact)) continue
      const later = filters.find((f) => f.writes.includes(fact))
      defects.push(
        `${filter.name} reads the fact '${fact}', which ${later ? `${later.name} writes after it` : 'no filter writes'}`,
      )
    }
    for (const fact of filter.writes) {
      const other = writers.get(fact)
      if (other !== undefined) defects.push(`${filter.name} writes the fact '${fact}', which ${other} writes already`)
      writers.set(fact, filter.name)
    }
  }
  return defects
}
