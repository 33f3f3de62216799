// The configuration file and the environment -> one frozen Config, or a ConfigError with everything that is wrong, each with its place.
// Nothing of a bad configuration is used: a gateway that starts with half of its settings is worse than one that says why it does not.
// Not taken: several files laid over each other; one file can be read from top to bottom and believed.
import { dirname, resolve } from 'node:path'
import type { z } from 'zod'
import { readYaml, type Spot, type YamlText } from './document.ts'
import { domainProblem } from './domains.ts'
import { type Environment, type Overridden, override, placeOfVariable } from './environment.ts'
import { explainIssues, type Place, plainMessage, type Subject, valueAt } from './explain.ts'
import { expandLists } from './lists.ts'
import { ConfigError, type OrderedProblem, type Path, type Problem, pathText, quoted } from './problem.ts'
import { type Config, configSchema } from './schema.ts'
import type { Schema } from './schema-walk.ts'
import { readTextFile } from './text-file.ts'

const DEFAULT_FILE = 'postern.yaml'
const LIMIT = 4 * 1024 ** 2

export interface LoadOptions {
  /** The file that the operator named. Without one `postern.yaml` is read if there is one. */
  readonly path?: string | undefined
  /** The text of the file, where it was read already; `path` then only names it. */
  readonly text?: string
  /** Where POSTERN_… are looked up; the environment of the process if it is left out. */
  readonly env?: Environment
}

export interface LoadedConfig {
  /** Frozen to the last leaf. `domains` holds no `file:` entries any more. */
  readonly config: Config
  readonly file: string | undefined
  /** Relative names in the configuration start here: the folder of the file, or the working directory. */
  readonly baseDir: string
  /**
   * `postern.yaml:12:3` or `environment POSTERN_…` for a setting, or for the nearest section around it that was written.
   * With `'key'` the place of the key instead of that of its value.
   */
  where(path: Path, of?: 'key' | 'value'): string | undefined
  /** Problems, for a ConfigError, from what zod found below a path: the options of a filter. The schema gives the suggestions. */
  explain(issues: readonly z.core.$ZodIssue[], path: Path, schema?: Schema): readonly Problem[]
}

/** Reads, checks and completes the configuration. Throws ConfigError. */
export function loadConfig(options: LoadOptions = {}): LoadedConfig {
  const source = readSource(options)
  const yaml = readYaml(source.text, source.name)
  if (yaml.problems.length > 0) throw new ConfigError(inOrder(yaml.problems))
  if (!isMapping(yaml.value ?? {})) throw new ConfigError([notAMapping(yaml.start())])
  const merged = override(yaml.value ?? {}, options.env ?? process.env, configSchema)
  const place = placeFinder(yaml, merged)
  const baseDir = source.file === undefined ? process.cwd() : dirname(resolve(source.file))
  const about: Subject = { schema: configSchema, value: merged.value, place, placeOfKey: (path) => place(path, 'key') }
  const domains = expandDomains(merged.value, baseDir, place)
  const checked = configSchema.safeParse(merged.value, { error: plainMessage })
  const problems = [...explainIssues(checked.error?.issues ?? [], about), ...domains.problems, ...merged.problems]
  if (problems.length > 0 || !checked.success) throw new ConfigError(inOrder(problems))
  return {
    config: frozen({ ...checked.data, domains: [...domains.names] }),
    file: source.file,
    baseDir,
    where: (path, of) => place(path, of)?.where,
    explain: (issues, path, schema) =>
      inOrder(explainIssues(issues, { ...about, schema, prefix: path, value: valueAt(merged.value, path) })),
  }
}

interface Source {
  readonly name: string
  readonly text: string
  readonly file: string | undefined
}

function readSource({ path, text }: LoadOptions): Source {
  const name = path ?? DEFAULT_FILE
  if (text !== undefined) return { name, text, file: path }
  const read = readTextFile(name, LIMIT)
  if ('text' in read) return { name, text: read.text, file: name }
  if (read.missing && path === undefined) return { name, text: '', file: undefined }
  const advice = read.missing ? '; name another with -c, or make it: an empty file means all defaults' : ''
  throw new ConfigError([{ path: '', message: `${read.problem}${advice}`, where: name }])
}

function notAMapping({ where }: Spot): Problem {
  return { where, path: '', message: 'expected settings such as hostname: mx.example.org, one below the other' }
}

function isMapping(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

type PlaceFinder = (path: Path, of?: 'key' | 'value') => Place | undefined

/** An override hides what the file says at and below its path; otherwise the nearest thing around a path that was written counts. */
function placeFinder(yaml: YamlText, { sources }: Overridden): PlaceFinder {
  return (path, of = 'value') => {
    const over = sources.findLast((source) => startsWith(path, source.path))
    if (over !== undefined) return placeOfVariable(over.name)
    for (let length = path.length; length > 0; length -= 1) {
      const part = path.slice(0, length)
      const spot = (of === 'key' ? yaml.keySpot(part) : undefined) ?? yaml.spot(part)
      if (spot !== undefined) return spot
      const below = sources.find((source) => startsWith(source.path, part))
      if (below !== undefined) return placeOfVariable(below.name)
    }
    return undefined
  }
}

function startsWith(path: Path, start: Path): boolean {
  return start.length <= path.length && start.every((part, at) => String(part) === String(path[at]))
}

/** `domains` with its lists read. Works on what was written, so that its problems are shown together with all others. */
function expandDomains(
  value: unknown,
  baseDir: string,
  place: PlaceFinder,
): { names: string[]; problems: OrderedProblem[] } {
  const written: unknown = (value as { domains?: unknown }).domains
  // Entries that are no text keep their index; the schema reports them.
  const texts = Array.isArray(written) ? written.map((entry) => (typeof entry === 'string' ? entry : '')) : []
  const list = expandLists(texts, baseDir)
  const wrong = list.entries.flatMap(({ text, index, where }) => {
    const message = text === '' ? undefined : domainProblem(text)
    return message === undefined ? [] : [{ index, where, message: `${message}; found ${quoted(text)}` }]
  })
  const problems = [...list.problems, ...wrong].map(({ index, where, message }) => {
    const spot = place(['domains', index])
    const known = where ?? spot?.where
    const path = pathText(['domains', index])
    return {
      ...(known === undefined ? {} : { where: known }),
      path,
      message,
      order: spot?.order ?? Number.POSITIVE_INFINITY,
    }
  })
  return { names: list.entries.map(({ text }) => text), problems }
}

/** By place in the file, then what comes from the environment; the order of finding where that is equal. */
function inOrder(problems: readonly OrderedProblem[]): readonly Problem[] {
  const compare = (a: OrderedProblem, b: OrderedProblem) => (a.order === b.order ? 0 : a.order - b.order)
  return problems.toSorted(compare).map(({ order: _, ...problem }) => problem)
}

function frozen<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const inner of Object.values(value)) frozen(inner)
  }
  return value
}
