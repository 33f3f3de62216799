// A walk over a zod schema: which settings there are, which keys an object takes, what stands below a key. The settings table, the
// suggestions for misspelt keys and the names of environment variables all come from here, so none of them can miss a setting.
// Not taken: z.toJSONSchema, which cannot show transforms (durations, sizes) and drops where a default came from.
import { z } from 'zod'

export type Schema = z.core.$ZodType

export interface Setting {
  /** `limits.idle`, `listeners[].name`. */
  readonly name: string
  readonly schema: Schema
}

export function definitionOf(schema: Schema): z.core.$ZodTypes['_zod']['def'] {
  return (schema as z.core.$ZodTypes)._zod.def
}

/** The schema, and what is wrapped in it (optional, default, transform), from the outside in. */
export function layersOf(schema: Schema): readonly Schema[] {
  const layers = [schema]
  for (let inner = wrappedIn(schema); inner !== undefined; inner = wrappedIn(inner)) layers.push(inner)
  return layers
}

function wrappedIn(schema: Schema): Schema | undefined {
  const def = definitionOf(schema)
  switch (def.type) {
    case 'optional':
    case 'nullable':
    case 'nonoptional':
    case 'default':
    case 'prefault':
    case 'catch':
    case 'readonly':
      return def.innerType
    case 'pipe':
      return def.in
    default:
      return undefined
  }
}

/** The schema without its wrappers: what the operator writes. */
export function coreOf(schema: Schema): Schema {
  return layersOf(schema).at(-1) ?? schema
}

/** What stands below a key or an index; undefined where there is no such key, or nothing is known about it. */
export function childOf(schema: Schema | undefined, key: string | number): Schema | undefined {
  if (schema === undefined) return undefined
  const def = definitionOf(coreOf(schema))
  switch (def.type) {
    case 'object':
      return Object.hasOwn(def.shape, key) ? def.shape[key] : undefined
    case 'array':
      return typeof key === 'number' ? def.element : undefined
    case 'record':
      return def.valueType
    case 'union':
      return def.options.map((option) => childOf(option, key)).find((child) => child !== undefined)
    default:
      return undefined
  }
}

export function schemaAt(schema: Schema, path: readonly (string | number)[]): Schema | undefined {
  return path.reduce<Schema | undefined>(childOf, schema)
}

/** The keys of an object; empty for everything else. */
export function keysOf(schema: Schema | undefined): readonly string[] {
  if (schema === undefined) return []
  const def = definitionOf(coreOf(schema))
  if (def.type === 'object') return Object.keys(def.shape)
  return def.type === 'union' ? def.options.flatMap(keysOf) : []
}

/** Every setting in the order of the schema, sections before what stands in them. */
export function settingsOf(schema: Schema, prefix = ''): readonly Setting[] {
  const def = definitionOf(coreOf(schema))
  if (def.type === 'array') return settingsOf(def.element, `${prefix}[]`)
  if (def.type === 'union') return def.options.flatMap((option) => settingsOf(option, prefix))
  if (def.type !== 'object') return []
  return Object.entries(def.shape).flatMap(([key, child]) => {
    const name = prefix === '' ? key : `${prefix}.${key}`
    return [{ name, schema: child }, ...settingsOf(child, name)]
  })
}

/** What `.meta()` and `.describe()` noted on a schema or, failing that, on what is wrapped in it. */
export function noteOf(schema: Schema, name: 'kind' | 'description'): string | undefined {
  for (const layer of layersOf(schema)) {
    const note = z.globalRegistry.get(layer)?.[name]
    if (typeof note === 'string') return note
  }
  return undefined
}

/** The default as the operator would write it, undefined without one. */
export function defaultOf(schema: Schema): unknown {
  for (const layer of layersOf(schema)) {
    const def = definitionOf(layer)
    if (def.type === 'default' || def.type === 'prefault') return def.defaultValue
  }
  return undefined
}
