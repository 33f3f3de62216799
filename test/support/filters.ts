// Filters, sessions and transactions for tests of the chain: the smallest that the contracts allow.
import type { InstalledFilter } from '../../src/filter/ask.ts'
import { FilterChain } from '../../src/filter/chain.ts'
import { FactBoard, type FactName, type SessionView, type TransactionView } from '../../src/filter/context.ts'
import type { Filter, FilterIo, Opinion } from '../../src/filter/filter.ts'
import { type AskedFilter, EventBus } from '../../src/observe/events.ts'
import { FakeClock } from './fake-clock.ts'
import { FakeLog } from './fake-log.ts'

/** A filter as the configuration installs it by default. */
export function installed(name: string, filter: Filter, settings: Partial<InstalledFilter> = {}): InstalledFilter {
  return {
    name,
    filter,
    mode: 'enforce',
    timeout: 5000,
    onFailure: 'skip',
    always: false,
    holdsGreeting: false,
    listeners: undefined,
    reads: [],
    writes: [],
    ...settings,
  }
}

export const session: SessionView = {
  id: 'S1',
  listener: { name: 'mx', kind: 'mx' },
  client: { address: '192.0.2.7', port: 2525 },
  helo: { verb: 'EHLO', name: 'client.example.net' },
  facts: new FactBoard(),
}

export const transaction: TransactionView = {
  id: 'S1.1',
  session,
  reversePath: null,
  declaredSize: undefined,
  recipients: [],
  facts: new FactBoard(),
  symbols: [],
}

export interface Bench {
  readonly chain: FilterChain
  readonly clock: FakeClock
  readonly log: FakeLog
  readonly facts: FactBoard
  /** What the chain told the metrics. */
  readonly asked: AskedFilter[]
  /** Runs the mail stage, which asks side by side. */
  mail(options?: { readonly trusted?: boolean }): ReturnType<FilterChain['mail']>
  /** Runs the data stage, which asks one after the other. */
  data(options?: { readonly trusted?: boolean }): ReturnType<FilterChain['data']>
}

/** A chain of these filters with a clock and a board of its own. */
export function bench(filters: readonly InstalledFilter[], listener = 'mx'): Bench {
  const [clock, log, facts] = [new FakeClock(), new FakeLog(), new FactBoard()]
  const events = new EventBus((event, error) => log.error({ event, error }, 'listener failed'))
  const asked: AskedFilter[] = []
  events.on('filter-asked', (one) => asked.push(one))
  const chain = new FilterChain({ filters, clock, log, events }, listener)
  return {
    chain,
    clock,
    log,
    facts,
    asked,
    mail: ({ trusted = false } = {}) => chain.mail(transaction, facts, { log, trusted }),
    data: ({ trusted = false } = {}) => chain.data(transaction, facts, { log, trusted }),
  }
}

/** Facts that no filter of the product writes yet go by names that only the tests know. */
export function fact(name: string): FactName {
  return name as FactName
}

/** An opinion of one finding. */
export const found = (symbol: string): Opinion => ({ findings: [{ symbol }] })

/** A filter of the stages mail and data. */
export function both(answer: (io: FilterIo) => Opinion | undefined | Promise<Opinion | undefined>): Filter {
  return { mail: (_tx, io) => answer(io), data: (_tx, io) => answer(io) }
}

/** One that says the same at both. */
export function says(name: string, opinion: Opinion, settings: Partial<InstalledFilter> = {}): InstalledFilter {
  return installed(
    name,
    both(() => opinion),
    settings,
  )
}

/** What a stage found, in order. */
export function symbols(result: { found: readonly { finding: { symbol: string } }[] }): string[] {
  return result.found.map((f) => f.finding.symbol)
}
