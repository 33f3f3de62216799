// The word that was meant: for a misspelt key, an enum value, the name of an environment variable.
import { distance } from 'fastest-levenshtein'
import { keysOf, type Schema, schemaAt, settingsOf } from './schema-walk.ts'

const LONGEST = 128

/** The candidate nearest to a word, if one is near enough to be meant: one slip in three letters, two in seven, four at most. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  if (word.length > LONGEST) return undefined
  const slips = word.length <= 3 ? 1 : Math.max(2, Math.min(4, Math.floor(word.length / 3)))
  let best: { candidate: string; slips: number } | undefined
  for (const candidate of candidates) {
    const count = distance(word.toLowerCase(), candidate.toLowerCase())
    if (count <= slips && (best === undefined || count < best.slips)) best = { candidate, slips: count }
  }
  return best?.candidate
}

/** What to say about a key that the object at `path` does not have. */
export function unknownKey(key: string, schema: Schema, path: readonly (string | number)[]): string {
  const here = keysOf(schemaAt(schema, path))
  const parents = parentsOf(key, schema)
  if (parents.length > 0) return `unknown setting here; it belongs ${parents.map(placeText).join(' or ')}`
  const near = nearest(key, here) ?? nearestAnywhere(key, schema)
  if (near !== undefined) return `unknown setting; did you mean ${near}?`
  return here.length > 0 && here.length <= 8 ? `unknown setting; known here: ${here.join(', ')}` : 'unknown setting'
}

/** The sections that do have a key of this name. */
function parentsOf(key: string, schema: Schema): readonly string[] {
  return settingsOf(schema)
    .filter(({ name }) => lastPart(name) === key)
    .map(({ name }) => name.slice(0, -key.length).replace(/\.$/, ''))
}

/** A whole name such as limits.idle, for a key that is misspelt and in the wrong section. */
function nearestAnywhere(key: string, schema: Schema): string | undefined {
  const names = new Map(settingsOf(schema).map(({ name }) => [lastPart(name), name]))
  const near = key.length < 5 ? undefined : nearest(key, names.keys())
  return near === undefined ? undefined : names.get(near)
}

function lastPart(name: string): string {
  return name.slice(name.lastIndexOf('.') + 1)
}

function placeText(parent: string): string {
  return parent === '' ? 'at the top level' : `under ${parent}`
}
