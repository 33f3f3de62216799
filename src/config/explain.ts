// What zod found -> problems that an operator can mend: the place in the file, the name of the setting, what was expected, what stands
// there, and which word was probably meant. Works for the settings of Postern and for the options of any filter made with zod.
// Not taken: zod's own texts, which speak of types ("expected record, received string") to people who write mail configurations.
import type { z } from 'zod'
import { type OrderedProblem, type Path, pathText, quoted, SECRET } from './problem.ts'
import type { Schema } from './schema-walk.ts'
import { nearest, unknownKey } from './suggest.ts'

type Issue = z.core.$ZodIssue
type RawIssue = z.core.$ZodRawIssue

export interface Place {
  readonly where: string
  readonly order: number
}

/** What the problems are about. */
export interface Subject {
  /** Without one there are no suggestions for unknown keys. */
  readonly schema?: Schema | undefined
  /** What was checked, as it was written. */
  readonly value: unknown
  /** Stands before every path: `['filters', 'dnsbl']` for the options of a filter. */
  readonly prefix?: Path
  /** The place of a value, or of the nearest thing around it that has one. */
  place(path: Path): Place | undefined
  placeOfKey(path: Path): Place | undefined
}

const EXPECTED = new Map([
  ['string', 'a text'],
  ['number', 'a number'],
  ['int', 'a whole number'],
  ['boolean', 'true or false'],
  ['array', 'a list such as [a, b]'],
  ['object', 'a mapping (key: value)'],
  ['record', 'a mapping (key: value)'],
])

/** Texts for zod's issues; give it as `error` to parse(). A text that the schema itself brings goes first. */
export function plainMessage(issue: RawIssue): string | undefined {
  switch (issue.code) {
    case 'invalid_type':
      return `expected ${EXPECTED.get(issue.expected) ?? issue.expected}`
    case 'invalid_value':
      return `expected ${issue.values.length > 1 ? 'one of ' : ''}${issue.values.map(String).join(', ')}`
    case 'invalid_union':
      return unionMessage(issue.errors)
    case 'too_small':
      return boundMessage(issue.origin, 'least', Number(issue.minimum))
    case 'too_big':
      return boundMessage(issue.origin, 'most', Number(issue.maximum))
    default:
      return undefined
  }
}

function unionMessage(branches: readonly (readonly Issue[])[]): string {
  const texts = branches.flatMap(([issue]) => (issue === undefined ? [] : [messageOf(issue)]))
  return `expected ${[...new Set(texts.map((text) => text.replace(/^expected /, '')))].join(', or ')}`
}

/** Filters check their options without our texts: zod's own are replaced here, those of the filter's author stay. */
function messageOf(issue: Issue): string {
  const isZodsOwn = /^(Invalid (input|option)|Too (small|big))\b/.test(issue.message)
  return (isZodsOwn ? plainMessage(issue as RawIssue) : undefined) ?? issue.message
}

function boundMessage(origin: string, side: 'least' | 'most', bound: number): string {
  if (origin === 'string')
    return bound === 1 && side === 'least' ? 'must not be empty' : `must have at ${side} ${bound} letters`
  if (origin === 'array') return `must have at ${side} ${bound} ${bound === 1 ? 'entry' : 'entries'}`
  return `must be at ${side} ${bound}`
}

/** One problem for each issue, and one for each unknown key of an issue. */
export function explainIssues(issues: readonly Issue[], subject: Subject): readonly OrderedProblem[] {
  return issues.flatMap((issue) => {
    const path = issue.path.map((part) => (typeof part === 'number' ? part : String(part)))
    if (issue.code !== 'unrecognized_keys') return [located(path, valueMessage(issue, path, subject), subject)]
    return issue.keys.map((key) => {
      const message = subject.schema === undefined ? 'unknown setting' : unknownKey(key, subject.schema, path)
      return located([...path, key], message, subject, subject.placeOfKey([...(subject.prefix ?? []), ...path, key]))
    })
  })
}

function located(path: Path, message: string, subject: Subject, known?: Place): OrderedProblem {
  const whole = [...(subject.prefix ?? []), ...path]
  const place = known ?? subject.place(whole)
  const where = place === undefined ? {} : { where: place.where }
  return { ...where, path: pathText(whole), message, order: place?.order ?? Number.POSITIVE_INFINITY }
}

function valueMessage(issue: Issue, path: Path, subject: Subject): string {
  const value = valueAt(subject.value, path)
  const message = messageOf(issue)
  if (value === null) return 'has no value; give it one or leave it out'
  if (value === undefined) return path.length > 0 && isAboutInput(issue) ? 'is missing' : message
  if (!/^(expected|must) /.test(message)) return message
  const isSecret = [...(subject.prefix ?? []), ...path].some((part) => SECRET.test(String(part)))
  return isSecret ? message : `${message}${foundText(value)}${meantText(issue, value)}`
}

/** A check of our own (`custom`) may point at a setting that is rightly absent. */
function isAboutInput(issue: Issue): boolean {
  return issue.code === 'invalid_type' || issue.code === 'invalid_union' || issue.code === 'invalid_value'
}

/** An address with a password in it is not repeated either, nor `password:xyz` where a blank is missing. */
function foundText(value: unknown): string {
  if (typeof value === 'string') return SECRET.test(value) || /:\/\/.*@/s.test(value) ? '' : `; found ${quoted(value)}`
  if (Array.isArray(value)) return '; found a list'
  return typeof value === 'object' ? '; found a mapping' : `; found ${String(value)}`
}

function meantText(issue: Issue, value: unknown): string {
  if (issue.code !== 'invalid_value' || typeof value !== 'string') return ''
  const near = nearest(value, issue.values.map(String))
  return near === undefined ? '' : `; did you mean ${near}?`
}

/** What stands at a path of a value; own properties only. */
export function valueAt(value: unknown, path: Path): unknown {
  return path.reduce<unknown>((part, key) => {
    if (typeof part !== 'object' || part === null || !Object.hasOwn(part, key)) return undefined
    return (part as Record<string | number, unknown>)[key]
  }, value)
}
