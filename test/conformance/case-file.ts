// Reads a case file: YAML -> typed cases with preludes spliced in, ${VAR} replaced and `for_each` unrolled.
// Promise: a case that is not understood in full carries an `error` and is never run in part. The file as a whole fails only where it is
// not YAML or has no list of cases.
// Not taken: leaving interpolation to the steps. A pattern must be complete before it is compiled.
import { parseDocument } from 'yaml'
import type { z } from 'zod'
import {
  type BackendRule,
  backendRules,
  type Checks,
  caseHead,
  checks,
  type Profile,
  type ProxySettings,
  proxySettings,
  type StepArgument,
  type StepKind,
  stepArguments,
  stepModifiers,
} from './format.ts'

/** One step with its argument; `where` is the path a report names it by: `3` or `2.use(rcpt).5`. */
export type Step = {
  [K in StepKind]: { readonly kind: K; readonly argument: StepArgument<K> }
}[StepKind] & {
  readonly where: string
  readonly timeoutMs: number | undefined
  readonly mayFail: boolean
  readonly onlyIf: RegExp | undefined
}

/** A case with one set of values of its `for_each`. */
export interface Variant {
  /** `X=BDAT -5`, or undefined where the case has no `for_each`. */
  readonly label: string | undefined
  readonly steps: readonly Step[]
  readonly backend: readonly BackendRule[]
  readonly check: Checks
  readonly proxy: ProxySettings
  /** The settings that the case itself names. */
  readonly proxyKeys: readonly string[]
}

export interface TestCase {
  readonly id: string
  readonly title: string
  readonly area: string
  readonly profile: Profile
  readonly variants: readonly Variant[]
}

/** A case that could not be understood. */
export interface BrokenCase {
  readonly id: string
  readonly title: string
  readonly area: string
  readonly profile: string
  readonly error: string
}

export type AnyCase = TestCase | BrokenCase

/** The file cannot be used at all: the command ends with 64. */
export class CaseFileError extends Error {}

type Preludes = ReadonlyMap<string, readonly unknown[]>
type Vars = ReadonlyMap<string, string>

export interface CaseFile {
  readonly cases: readonly AnyCase[]
  readonly vars: Vars
  readonly preludes: Preludes
}

/** Reads the text of a case file. Vars and preludes that it does not define itself are taken from `standard`. */
export function parseCaseFile(text: string, standard?: CaseFile): CaseFile {
  const root = record(readYaml(text))
  if (root === undefined) throw new CaseFileError('the case file is not a mapping')
  if (root.version !== undefined && root.version !== 1) {
    throw new CaseFileError(`the case file has version ${String(root.version)}; this runner reads version 1`)
  }
  if (!Array.isArray(root.cases)) throw new CaseFileError('the case file has no list `cases`')
  const vars = new Map(standard?.vars)
  for (const [name, value] of Object.entries(record(root.vars) ?? {})) vars.set(name, String(value))
  const preludes = new Map(standard?.preludes)
  for (const [name, steps] of Object.entries(record(root.preludes) ?? {})) {
    if (!Array.isArray(steps)) throw new CaseFileError(`prelude ${name} is not a list of steps`)
    preludes.set(name, steps)
  }
  const cases = root.cases.map((raw, i) => parseCase(raw, i, { vars, preludes }))
  const seen = new Set<string>()
  return {
    cases: cases.map((one) => {
      if (seen.has(one.id)) return broken(one, `the id ${one.id} is used twice`)
      seen.add(one.id)
      return one
    }),
    vars,
    preludes,
  }
}

function readYaml(text: string): unknown {
  const document = parseDocument(text)
  const [problem] = document.errors
  if (problem !== undefined) throw new CaseFileError(`the case file is not YAML: ${problem.message}`)
  return document.toJS()
}

interface Names {
  readonly vars: Vars
  readonly preludes: Preludes
}

function parseCase(raw: unknown, index: number, names: Names): AnyCase {
  const rough = withWholeTitle(record(raw) ?? {})
  const named = {
    id: typeof rough.id === 'string' ? rough.id : `#${index + 1}`,
    title: String(rough.title ?? ''),
    area: String(rough.area ?? ''),
    profile: String(rough.profile ?? ''),
  }
  const head = caseHead.safeParse(rough)
  if (!head.success) return broken(named, describe(head.error))
  try {
    const variants = combinations(head.data.for_each ?? {}).map((values) => parseVariant(head.data, values, names))
    return { ...named, profile: head.data.profile, variants }
  } catch (error) {
    if (error instanceof CaseProblem) return broken(named, error.message)
    throw error
  }
}

/**
 * In YAML's `{title: header only, no blank line}` the comma ends the title and the rest is a key without a value. Such a key is part of
 * the title; one with a value is an unknown key like any other.
 */
function withWholeTitle(fields: Record<string, unknown>): Record<string, unknown> {
  const rests = Object.keys(fields).filter((key) => fields[key] === null && !Object.hasOwn(caseHead.shape, key))
  if (rests.length === 0) return fields
  const others = Object.fromEntries(Object.entries(fields).filter(([key]) => !rests.includes(key)))
  return { ...others, title: [fields.title, ...rests].join(', ') }
}

class CaseProblem extends Error {}

function broken(named: Omit<BrokenCase, 'error'>, problem: string): BrokenCase {
  const { id, title, area, profile } = named
  return { id, title, area, profile, error: `error: ${problem}` }
}

function combinations(forEach: Record<string, readonly string[]>): ReadonlyMap<string, string>[] {
  let sets: ReadonlyMap<string, string>[] = [new Map()]
  for (const [name, values] of Object.entries(forEach)) {
    sets = sets.flatMap((set) => values.map((value) => new Map([...set, [name, value]])))
  }
  return sets
}

function parseVariant(head: z.output<typeof caseHead>, values: ReadonlyMap<string, string>, names: Names): Variant {
  const vars = new Map([...names.vars, ...values])
  const section = <T>(name: string, schema: z.ZodType<T>, raw: unknown): T => {
    const parsed = schema.safeParse(interpolate(raw, vars))
    if (!parsed.success) throw new CaseProblem(`${name}: ${describe(parsed.error)}`)
    return parsed.data
  }
  return {
    label: values.size === 0 ? undefined : [...values].map(([name, value]) => `${name}=${show(value)}`).join(' '),
    steps: splice(head.steps, names.preludes, '', 0).map(([where, step]) => parseStep(interpolate(step, vars), where)),
    backend: section('backend', backendRules, head.backend ?? undefined),
    check: section('check', checks, head.check ?? undefined),
    proxy: section('proxy', proxySettings, head.proxy ?? {}),
    proxyKeys: Object.keys(record(head.proxy) ?? {}),
  }
}

/** Replaces each `use` by the steps of its prelude. */
function splice(
  steps: readonly unknown[],
  preludes: Preludes,
  prefix: string,
  depth: number,
): (readonly [string, unknown])[] {
  if (depth > 16) throw new CaseProblem('preludes use each other in a circle')
  return steps.flatMap((step, i) => {
    const where = `${prefix}${i + 1}`
    const use = record(step)?.use
    if (use === undefined) return [[where, step] as const]
    const prelude = typeof use === 'string' ? preludes.get(use) : undefined
    if (prelude === undefined) throw new CaseProblem(`step ${where}: unknown prelude ${String(use)}`)
    if (Object.keys(record(step) ?? {}).length > 1) {
      throw new CaseProblem(`step ${where}: \`use\` stands alone in its step`)
    }
    return splice(prelude, preludes, `${where}.${use}.`, depth + 1)
  })
}

const MODIFIERS = new Set(Object.keys(stepModifiers.shape))

function parseStep(raw: unknown, where: string): Step {
  const step = record(raw)
  if (step === undefined) throw new CaseProblem(`step ${where} is not a mapping`)
  const keys = Object.keys(step).filter((key) => !MODIFIERS.has(key))
  const [kind] = keys
  for (const key of keys) if (!isStepKind(key)) throw new CaseProblem(`unknown step ${key} (step ${where})`)
  if (kind === undefined || !isStepKind(kind)) throw new CaseProblem(`step ${where} does nothing`)
  if (keys.length > 1) throw new CaseProblem(`step ${where} does several things: ${keys.join(', ')}`)
  const argument = stepArguments[kind].safeParse(step[kind])
  if (!argument.success) throw new CaseProblem(`step ${where} (${kind}): ${describe(argument.error)}`)
  const modifiers = stepModifiers.safeParse(Object.fromEntries(Object.entries(step).filter(([k]) => MODIFIERS.has(k))))
  if (!modifiers.success) throw new CaseProblem(`step ${where}: ${describe(modifiers.error)}`)
  return {
    kind,
    argument: argument.data,
    where,
    timeoutMs: modifiers.data.timeout_ms,
    mayFail: modifiers.data.may_fail ?? false,
    onlyIf: modifiers.data.only_if,
  } as Step
}

function isStepKind(name: string): name is StepKind {
  return Object.hasOwn(stepArguments, name)
}

const VARIABLE = /\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g

/** Replaces `${NAME}` in every string, values of variables included; a name that nobody defined is an error. */
function interpolate(value: unknown, vars: Vars, depth = 0): unknown {
  if (typeof value === 'string') {
    return value.replace(VARIABLE, (_, name: string) => {
      const text = vars.get(name)
      if (text === undefined) throw new CaseProblem(`unknown variable \${${name}}`)
      return depth < 8 ? String(interpolate(text, vars, depth + 1)) : text
    })
  }
  if (Array.isArray(value)) return value.map((item) => interpolate(item, vars, depth))
  const fields = record(value)
  if (fields === undefined) return value
  return Object.fromEntries(Object.entries(fields).map(([key, item]) => [key, interpolate(item, vars, depth)]))
}

function describe(error: z.ZodError): string {
  return error.issues.map(describeIssue).join('; ')
}

function describeIssue(issue: z.core.$ZodIssue): string {
  const path = issue.path.map(String).join('.')
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => `unknown key ${path === '' ? key : `${path}.${key}`}`).join('; ')
  }
  if (issue.code === 'invalid_union') {
    const inner = issue.errors.map((issues) => issues.map(describeIssue).join(', ')).filter((text) => text !== '')
    return `${path === '' ? '' : `${path}: `}${inner.length === 0 ? issue.message : inner.join(' / ')}`
  }
  return path === '' ? issue.message : `${path}: ${issue.message}`
}

/** Text as it may stand in a report: one line, printable. */
export function show(text: string, most = 160): string {
  const one = JSON.stringify(text).slice(1, -1)
  return one.length <= most ? one : `${one.slice(0, most)}… (${text.length} characters)`
}

function record(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined
}
