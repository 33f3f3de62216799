// The `backend:` list of a case: at which moment, for which occurrence, the scripted backend does something else than usual.
// Occurrences are counted over the whole case, all connections together; those of `ehlo_lines` are connections.
import type { ActionRule, BackendMoment, BackendRule, EhloRule } from './format.ts'

export class RuleBook {
  readonly #actions: readonly ActionRule[]
  readonly #ehlo: readonly EhloRule[]
  readonly #seen = new Map<BackendMoment, number>()
  readonly #extensions: readonly string[]

  constructor(rules: readonly BackendRule[], extensions: readonly string[]) {
    this.#actions = rules.filter((rule): rule is ActionRule => 'at' in rule)
    this.#ehlo = rules.filter((rule): rule is EhloRule => 'ehlo_lines' in rule)
    this.#extensions = extensions
  }

  /** Counts one occurrence and says what is to be done; a rule for this very occurrence goes before a general one. */
  at(moment: BackendMoment): ActionRule | undefined {
    const count = (this.#seen.get(moment) ?? 0) + 1
    this.#seen.set(moment, count)
    const rules = this.#actions.filter((rule) => rule.at === moment)
    return rules.find((rule) => rule.nth === count) ?? rules.find((rule) => rule.nth === undefined)
  }

  /** The keywords announced on the nth connection. */
  ehloLines(connection: number): readonly string[] {
    const rule = this.#ehlo.find((one) => one.nth === connection) ?? this.#ehlo.find((one) => one.nth === undefined)
    const lines = rule?.ehlo_lines ?? this.#extensions
    const scriptedStartTls = this.#actions.some((one) => one.at === 'STARTTLS')
    return scriptedStartTls && !lines.includes('STARTTLS') ? [...lines, 'STARTTLS'] : lines
  }
}

const ALWAYS = [
  'PIPELINING',
  'SIZE 10485760',
  '8BITMIME',
  'SMTPUTF8',
  'DSN',
  'ENHANCEDSTATUSCODES',
  'XCLIENT NAME ADDR PORT PROTO HELO LOGIN',
]

/** What the backend announces where the case does not say otherwise. */
export function defaultExtensions(options: { readonly auth: boolean }): readonly string[] {
  return options.auth ? [...ALWAYS, 'AUTH PLAIN LOGIN'] : ALWAYS
}
