// Settings from the environment: POSTERN_LIMITS__IDLE=1m is limits.idle, POSTERN_LISTENERS__0__ADDRESS is listeners[0].address. The value is
// YAML, as in the file. A name that is no setting is an error: a misspelt override that is silently ignored is found weeks later.
// Not taken: one underscore between levels, since names of settings have underscores themselves.
import { RESERVED, readYaml } from './document.ts'
import { type OrderedProblem, type Path, pathText } from './problem.ts'
import { childOf, coreOf, defaultOf, definitionOf, keysOf, type Schema, schemaAt, settingsOf } from './schema-walk.ts'
import { nearest } from './suggest.ts'

export type Environment = Readonly<Record<string, string | undefined>>

export interface Overridden {
  /** The value of the file with the overrides in it; the value of the file is left as it is. */
  readonly value: unknown
  readonly problems: readonly OrderedProblem[]
  /** Each override that was applied: where it went, and the name of its variable. */
  readonly sources: readonly { readonly path: Path; readonly name: string }[]
}

interface Override {
  readonly name: string
  readonly path: Path
  readonly text: string
}

const PREFIX = 'POSTERN_'
const MAX_LEVELS = 16

/** Lays the variables that begin with POSTERN_ over the value of the file. */
export function override(value: unknown, environment: Environment, schema: Schema): Overridden {
  const problems: OrderedProblem[] = []
  const overrides: Override[] = []
  for (const [name, text] of Object.entries(environment)) {
    if (text === undefined || !name.startsWith(PREFIX)) continue
    const path = pathOf(name, schema)
    if (path !== undefined) overrides.push({ name, path, text })
    else if (!isServiceLink(name, text)) problems.push(problem(name, '', unknownName(name, schema)))
  }
  // Whole lists and sections first, so that POSTERN_LISTENERS and POSTERN_LISTENERS__0__ADDRESS go together in any order.
  const sources: Override[] = []
  let result = value
  for (const one of overrides.toSorted((a, b) => comparePaths(a.path, b.path))) {
    try {
      result = withValue({ value: result, path: one.path, schema }, readValue(one, schema))
      sources.push(one)
    } catch (error) {
      if (!(error instanceof NotPossible)) throw error
      problems.push(problem(one.name, pathText(one.path), error.message))
    }
  }
  return { value: result, problems, sources }
}

/** Where an override is said to stand. */
export function placeOfVariable(name: string): { where: string; order: number } {
  return { where: `environment ${name}`, order: Number.POSITIVE_INFINITY }
}

function problem(name: string, path: string, message: string): OrderedProblem {
  return { ...placeOfVariable(name), path, message }
}

class NotPossible extends Error {}

/**
 * Kubernetes describes every service of a namespace to every container. For a service called postern that is POSTERN_SERVICE_HOST,
 * POSTERN_PORT=tcp://…, POSTERN_PORT_25_TCP_ADDR and so on: not ours, and no reason to refuse the start.
 */
function isServiceLink(name: string, text: string): boolean {
  if (name.includes('__')) return false
  if (/_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$/.test(name) || /_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/.test(name))
    return true
  return name.endsWith('_PORT') && /^(tcp|udp|sctp):\/\//.test(text)
}

/** Undefined where the name is that of no setting. Below `filters` every name is taken: the filters know their options. */
function pathOf(name: string, schema: Schema): Path | undefined {
  const parts = name.slice(PREFIX.length).split('__')
  if (name !== name.toUpperCase() || parts.length > MAX_LEVELS) return undefined
  const path: (string | number)[] = []
  let here: Schema | undefined = schema
  for (const part of parts) {
    const key = keyOf(part, here)
    if (key === undefined) return undefined
    path.push(key)
    here = childOf(here, key)
  }
  return path
}

function keyOf(part: string, schema: Schema | undefined): string | number | undefined {
  const type = schema === undefined ? 'unknown' : definitionOf(coreOf(schema)).type
  const index = /^(0|[1-9]\d{0,3})$/.test(part) ? Number(part) : undefined
  const name = part.toLowerCase()
  if (type === 'array') return index
  if (type === 'object' || type === 'union') return keysOf(schema).find((key) => key === name)
  if (part === '' || RESERVED.has(name)) return undefined
  if (type === 'record') return name
  return type === 'unknown' ? (index ?? name) : undefined
}

function unknownName(name: string, schema: Schema): string {
  const numbers = name.match(/(?<=__)\d{1,4}(?=__|$)/g) ?? []
  const known = settingsOf(schema).map((setting) => variableOf(setting.name, numbers))
  const near = nearest(name.slice(PREFIX.length), known)
  return near === undefined ? 'no setting has this name' : `no setting has this name; did you mean ${PREFIX}${near}?`
}

/** `listeners[].name` with the numbers of the name that was written: `LISTENERS__1__NAME`. */
function variableOf(setting: string, numbers: readonly string[]): string {
  let at = 0
  const numbered = setting.replaceAll('[]', () => `.${numbers[at++] ?? 0}`)
  return numbered.replaceAll('.', '__').toUpperCase()
}

function comparePaths(a: Path, b: Path): number {
  for (const [at, part] of a.entries()) {
    const other = b[at]
    if (other === undefined) return 1
    if (part === other) continue
    if (typeof part === 'number' && typeof other === 'number') return part - other
    return String(part) < String(other) ? -1 : 1
  }
  return a.length - b.length
}

/** Where only a text can stand, a text that YAML takes for something else is taken as it is: `[::1]:25`, `1234`. */
function readValue({ name, text, path }: Override, schema: Schema): unknown {
  if (text.trim() === '') return null
  const yaml = readYaml(text, name)
  const here = schemaAt(schema, path)
  if (here !== undefined && wantsText(here)) return typeof yaml.value === 'string' ? yaml.value : text.trim()
  const [first] = yaml.problems
  if (first !== undefined) throw new NotPossible(`the value is not good YAML: ${first.message}`)
  return yaml.value ?? null
}

function wantsText(schema: Schema): boolean {
  const def = definitionOf(coreOf(schema))
  if (def.type === 'union') return def.options.every(wantsText)
  return def.type === 'string' || def.type === 'enum' || def.type === 'literal'
}

interface Target {
  readonly value: unknown
  readonly path: Path
  readonly schema: Schema | undefined
  readonly done?: Path
}

/**
 * A copy with one value replaced. Copied along the path and never changed in place: aliases of YAML share objects.
 * What the file leaves out starts from the default, so that POSTERN_LISTENERS__0__ADDRESS needs no listener in the file.
 */
function withValue(target: Target, value: unknown): unknown {
  const { path, schema, done = [] } = target
  const [key, ...rest] = path
  if (key === undefined) return value
  const base = target.value ?? (schema && defaultOf(schema)) ?? (typeof key === 'number' ? [] : {})
  const next = (inner: unknown) =>
    withValue({ value: inner, path: rest, schema: childOf(schema, key), done: [...done, key] }, value)
  if (Array.isArray(base)) {
    if (typeof key !== 'number') throw new NotPossible(`${pathText(done)} is a list; expected a number after it`)
    if (key > base.length)
      throw new NotPossible(`${pathText(done)} has ${base.length} entries; the next one is number ${base.length}`)
    return [...base.slice(0, key), next(base[key]), ...base.slice(key + 1)]
  }
  if (typeof base !== 'object') throw new NotPossible(`${pathText(done)} is neither a mapping nor a list in the file`)
  return {
    ...base,
    [key]: next(Object.hasOwn(base, key) ? (base as Record<string | number, unknown>)[key] : undefined),
  }
}
