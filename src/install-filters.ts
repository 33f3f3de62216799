// From the filter table, the plugins and the `filters:` section of the configuration to filters that run.
// Promise: every section belongs to a filter, every option is checked by the filter it is for, and each problem is told with its place in the
// file before the gateway takes a connection.
import { registerHooks } from 'node:module'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { z } from 'zod'
import { expandLists } from './config/lists.ts'
import type { LoadedConfig } from './config/load.ts'
import { ConfigError, type Problem, pathText, quoted } from './config/problem.ts'
import { filterCommon } from './config/schema.ts'
import { nearest } from './config/suggest.ts'
import type { InstalledFilter } from './filter/ask.ts'
import { factDefects } from './filter/chain.ts'
import type { FilterKit, Logger } from './filter/context.ts'
import type { Filter, FilterDefinition } from './filter/filter.ts'
import type { Clock } from './net/clock.ts'

/** A filter of any options, as it stands in a table. */
export type AnyFilterDefinition = Omit<FilterDefinition<unknown>, 'create'> & {
  create(options: never, kit: FilterKit): Filter | Promise<Filter>
}

export interface TableEntry {
  readonly definition: AnyFilterDefinition
  readonly enabled: boolean
}

export interface InstallContext {
  readonly loaded: LoadedConfig
  readonly table: readonly TableEntry[]
  readonly clock: Clock
  readonly log: Logger
}

const common = z.object({ ...filterCommon, enabled: filterCommon.enabled.optional() })
const COMMON_KEYS = new Set(Object.keys(filterCommon))

/** Loads the plugins and creates all enabled filters, in table order, plugins last. Throws ConfigError. */
export async function installFilters(context: InstallContext): Promise<InstalledFilter[]> {
  const { loaded, table } = context
  const entries = [...table]
  const problems: Problem[] = []
  for (const [i, path] of loaded.config.plugins.entries()) {
    try {
      entries.push({ definition: await loadPlugin(resolve(loaded.baseDir, path)), enabled: true })
    } catch (error) {
      problems.push(
        problemAt(loaded, ['plugins', i], `${path}: ${error instanceof Error ? error.message : String(error)}`),
      )
    }
  }
  if (problems.length === 0) problems.push(...unknownSections(loaded, entries))
  if (problems.length > 0) throw new ConfigError(problems)
  const installed: InstalledFilter[] = []
  for (const entry of entries) {
    const filter = await install(entry, context, problems)
    if (filter !== undefined) installed.push(filter)
  }
  for (const defect of factDefects(installed)) problems.push({ path: 'filters', message: defect })
  if (problems.length > 0) throw new ConfigError(problems)
  return installed
}

function problemAt(loaded: LoadedConfig, path: readonly (string | number)[], message: string): Problem {
  const where = loaded.where(path)
  return { path: pathText(path), message, ...(where === undefined ? {} : { where }) }
}

function unknownSections(loaded: LoadedConfig, entries: readonly TableEntry[]): Problem[] {
  const names = entries.map((e) => e.definition.name)
  const problems: Problem[] = []
  for (const [i, name] of names.entries()) {
    if (names.indexOf(name) !== i) problems.push({ path: 'plugins', message: `two filters are named '${name}'` })
  }
  for (const name of Object.keys(loaded.config.filters)) {
    if (names.includes(name)) continue
    const guess = nearest(name, names)
    problems.push(
      problemAt(loaded, ['filters', name], `unknown filter${guess === undefined ? '' : `; did you mean ${guess}?`}`),
    )
  }
  return problems
}

async function install(
  entry: TableEntry,
  context: InstallContext,
  problems: Problem[],
): Promise<InstalledFilter | undefined> {
  const { loaded, clock, log } = context
  const { definition } = entry
  const path = ['filters', definition.name]
  const section = Object.entries(loaded.config.filters[definition.name] ?? {})
  const shared = common.safeParse(Object.fromEntries(section.filter(([key]) => COMMON_KEYS.has(key))))
  if (!shared.success) {
    problems.push(...loaded.explain(shared.error.issues, path, common))
    return undefined
  }
  problems.push(...unknownListeners(loaded, definition.name, shared.data.listeners))
  try {
    const own = Object.fromEntries(section.filter(([key]) => !COMMON_KEYS.has(key)))
    const options = ownOptions(definition, own)
    if (!(shared.data.enabled ?? entry.enabled)) return undefined
    const kit: FilterKit = {
      clock,
      log,
      baseDir: loaded.baseDir,
      readList: (list, defect) => readList(list, loaded.baseDir, defect),
    }
    const filter = await definition.create(options as never, kit)
    return {
      name: definition.name,
      filter,
      mode: shared.data.mode,
      timeout: shared.data.timeout,
      onFailure: shared.data.on_failure,
      always: definition.always ?? false,
      holdsGreeting: definition.holdsGreeting ?? false,
      listeners: shared.data.listeners === undefined ? undefined : new Set(shared.data.listeners),
      reads: definition.reads ?? [],
      writes: definition.writes ?? [],
    }
  } catch (error) {
    if (error instanceof z.ZodError || hasIssues(error)) {
      problems.push(...loaded.explain(error.issues, path, allSettings(definition)))
    } else problems.push(problemAt(loaded, path, error instanceof Error ? error.message : String(error)))
    return undefined
  }
}

// What a misspelt setting may have been meant to be: one of the filter's own, or one that every filter has.
function allSettings({ options }: AnyFilterDefinition): z.ZodType | undefined {
  if (options instanceof z.ZodObject) return z.object({ ...filterCommon, ...options.shape })
  return options instanceof z.ZodType ? options : undefined
}

// A plugin may bring a zod of its own: its errors look the same and are of another class.
function hasIssues(error: unknown): error is { issues: z.core.$ZodIssue[] } {
  if (typeof error !== 'object' || error === null || !('issues' in error)) return false
  return Array.isArray(error.issues) && error.issues.length > 0 && error.issues.every(isIssue)
}

function isIssue(issue: unknown): boolean {
  const { code, path, message }: Record<string, unknown> = typeof issue === 'object' ? { ...issue } : {}
  return typeof code === 'string' && Array.isArray(path) && typeof message === 'string'
}

function ownOptions(definition: AnyFilterDefinition, own: Readonly<Record<string, unknown>>): unknown {
  if (definition.options !== undefined) return definition.options.parse(own)
  const [unknown] = Object.keys(own)
  if (unknown === undefined) return {}
  const guess = nearest(unknown, COMMON_KEYS)
  const advice = guess === undefined ? 'this filter has no settings of its own' : `did you mean ${guess}?`
  throw new Error(`unknown setting ${quoted(unknown)}; ${advice}`)
}

function unknownListeners(loaded: LoadedConfig, filter: string, wanted: readonly string[] = []): Problem[] {
  const names = loaded.config.listeners.map((l) => l.name)
  return wanted
    .filter((name) => !names.includes(name))
    .map((name) => problemAt(loaded, ['filters', filter, 'listeners'], `no listener is named '${name}'`))
}

function readList(
  list: readonly string[],
  baseDir: string,
  defect?: (entry: string) => string | undefined,
): readonly string[] {
  const { entries, problems } = expandLists(list, baseDir)
  const wrong = entries.flatMap(({ text, where }) => {
    const message = defect?.(text)
    return message === undefined ? [] : [{ where, message }]
  })
  const all = [...problems, ...wrong].map(({ where, message }) =>
    where === undefined ? message : `${where}: ${message}`,
  )
  if (all.length > 0) throw new Error(all.slice(0, 10).join('\n'))
  return entries.map((entry) => entry.text)
}

// `import … from 'postern/filter'` in a plugin means this very program, wherever it is installed and whether or not the site has a
// node_modules folder.
let hooked = false
function hookPlugins(): void {
  if (hooked) return
  hooked = true
  const own = import.meta.resolve(import.meta.url.endsWith('.ts') ? './filter/filter.ts' : './filter/filter.js')
  registerHooks({
    resolve: (specifier, context, next) =>
      specifier === 'postern/filter' ? { url: own, shortCircuit: true } : next(specifier, context),
  })
}

async function loadPlugin(path: string): Promise<AnyFilterDefinition> {
  hookPlugins()
  const module: unknown = await import(pathToFileURL(path).href)
  const definition: unknown =
    typeof module === 'object' && module !== null && 'default' in module ? module.default : undefined
  if (typeof definition !== 'object' || definition === null)
    throw new Error('has no default export made with defineFilter')
  const { name, create } = definition as Partial<AnyFilterDefinition>
  if (typeof name !== 'string' || !/^[a-z][a-z0-9_]{0,31}$/.test(name))
    throw new Error('its filter has no proper name (a-z, 0-9, _)')
  if (typeof create !== 'function') throw new Error(`its filter ${name} has no create function`)
  return definition as AnyFilterDefinition
}
