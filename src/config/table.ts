// The table of settings in the README, made from the schema: a setting that is added there is documented here, or a test says so.
// Not taken: a generator script with templates; one function and one test are enough.
import { stringify } from 'yaml'
import { z } from 'zod'
import { configSchema, filterCommon } from './schema.ts'
import {
  coreOf,
  defaultOf,
  definitionOf,
  keysOf,
  layersOf,
  noteOf,
  type Schema,
  type Setting,
  settingsOf,
} from './schema-walk.ts'

/** Defaults that cannot be read from the schema: they differ from machine to machine, or from filter to filter. */
const DEFAULT_TEXTS = new Map([
  ['hostname', 'name of the machine'],
  ['filters', ''],
  ['filters.NAME.enabled', 'see the filter'],
])

const FILTER_PREFIX = 'filters.NAME'

/** The Markdown table of all settings, without a line break at its end. */
export function settingsTable(): string {
  const rows = settingsOf(configSchema).flatMap((setting) =>
    setting.name === 'filters' ? [setting, ...settingsOf(z.object(filterCommon), FILTER_PREFIX)] : [setting],
  )
  return ['| setting | type | default | meaning |', '|---|---|---|---|', ...rows.map(rowText)].join('\n')
}

function rowText({ name, schema }: Setting): string {
  const cells = [`\`${name}\``, typeText(schema), defaultText(name, schema), noteOf(schema, 'description') ?? '']
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`
}

function typeText(schema: Schema): string {
  const kind = noteOf(schema, 'kind')
  if (kind !== undefined) return kind
  const def = definitionOf(coreOf(schema))
  switch (def.type) {
    case 'string':
      return 'text'
    case 'boolean':
      return 'true or false'
    case 'enum':
      return alternatives(Object.values(def.entries).map((entry) => `\`${entry}\``))
    case 'literal':
      return alternatives(def.values.map((value) => `\`${String(value)}\``))
    case 'union':
      return alternatives(def.options.map(typeText))
    case 'array':
      return keysOf(def.element).length > 0 ? 'list of sections' : `list of ${plural(typeText(def.element))}`
    case 'object':
    case 'record':
      return 'section'
    default:
      return def.type
  }
}

function plural(text: string): string {
  return /^\w+$/.test(text) && text !== 'text' ? `${text}s` : text
}

function alternatives(texts: readonly string[]): string {
  return [texts.slice(0, -1).join(', '), texts.at(-1)].filter((text) => text !== '').join(' or ')
}

function defaultText(name: string, schema: Schema): string {
  const text = DEFAULT_TEXTS.get(name)
  if (text !== undefined) return text
  const value = defaultOf(schema)
  if (value === undefined)
    return layersOf(schema).some((layer) => definitionOf(layer).type === 'optional') ? '' : 'required'
  if (typeof value === 'string') return `\`${value}\``
  if (isEmptySection(schema, value)) return ''
  const options = { collectionStyle: 'flow', flowCollectionPadding: false, lineWidth: 0 } as const
  return `\`${stringify(value, options).trim()}\``
}

/** The default of a section is that of the settings in it. */
function isEmptySection(schema: Schema, value: unknown): boolean {
  return definitionOf(coreOf(schema)).type === 'object' && JSON.stringify(value) === '{}'
}
