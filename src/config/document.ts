// YAML text -> a value, and the line and column of everything in it. Syntax errors, keys that stand twice, unknown tags and aliases
// that would grow without bound are problems with a place; messages never repeat the text of a value, which may be a secret.
// Not taken: the library's own messages with an excerpt of the source, for the same reason.
import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  visit,
} from 'yaml'
import type { OrderedProblem, Path } from './problem.ts'

export interface Spot {
  readonly where: string
  /** For sorting by place in the file. */
  readonly order: number
}

export interface YamlText {
  /** Undefined for an empty text and where there are problems. */
  readonly value: unknown
  readonly problems: readonly OrderedProblem[]
  /** Where the value of exactly this path stands (for a key without a value: where the key stands). */
  spot(path: Path): Spot | undefined
  /** Where the last key of exactly this path stands. */
  keySpot(path: Path): Spot | undefined
  start(): Spot
}

/** Words that would reach into JavaScript's own objects. No setting is called so. */
export const RESERVED: ReadonlySet<string> = new Set(['__proto__', 'constructor', 'prototype'])

const MAX_ALIASES = 100
const MAX_PROBLEMS = 20

const MESSAGES = new Map([
  ['DUPLICATE_KEY', 'this key stands here a second time'],
  ['TAB_AS_INDENT', 'a tab in the indentation; YAML wants spaces'],
  ['BAD_ALIAS', 'a value that begins with * or & must be quoted'],
  ['BAD_SCALAR_START', 'a value that begins with a special character must be quoted'],
  ['TAG_RESOLVE_FAILED', 'a value that begins with ! must be quoted'],
  ['BAD_COLLECTION_TYPE', 'a value that begins with ! must be quoted'],
  ['BAD_DQ_ESCAPE', "unknown escape after a backslash; between '…' a backslash is an ordinary character"],
  ['BAD_DIRECTIVE', 'a line that begins with % must be quoted'],
  ['BLOCK_AS_IMPLICIT_KEY', 'a second colon on this line; quote the value'],
  ['NON_STRING_KEY', 'a key must be plain text'],
  ['MULTIPLE_DOCS', 'a second document begins here (---); the configuration is one document'],
  ['RESOURCE_EXHAUSTION', 'nested too deeply'],
  ['UNEXPECTED_TOKEN', 'unexpected text; quote the value if it holds any of [ ] { } , : # & * ! | > % @'],
])

/** Reads one YAML document; `name` stands before line and column. */
export function readYaml(text: string, name: string): YamlText {
  const lines = new LineCounter()
  const options = { lineCounter: lines, prettyErrors: false, stringKeys: true, logLevel: 'error' } as const
  const document = parseDocument(text, options)
  const at = (order: number): Spot => {
    const { line, col } = lines.linePos(order)
    return { where: `${name}:${line}:${col}`, order }
  }
  const problem = (order: number, message: string, path = ''): OrderedProblem => ({ ...at(order), path, message })
  const syntax = syntaxProblems(document, text, problem)
  const problems = syntax.length > 0 ? syntax : contentProblems(document, problem)
  const converted: Converted = problems.length > 0 ? { value: undefined } : toValue(document)
  const reason = converted.problem === undefined ? [] : [problem(0, converted.problem)]
  return {
    value: converted.value,
    problems: [...problems, ...reason],
    spot: (path) => spotOf(document, path, at),
    keySpot: (path) => {
      const pair = pairAt(document, path)
      return pair?.key === undefined ? undefined : at(startOf(pair.key))
    },
    start: () => at(document.contents === null ? 0 : startOf(document.contents)),
  }
}

type Report = (order: number, message: string, path?: string) => OrderedProblem

/** One problem a line, since one slip makes the parser stumble several times. */
function syntaxProblems(document: Document.Parsed, text: string, problem: Report): readonly OrderedProblem[] {
  const problems = [...document.errors, ...document.warnings].map(({ code, message, pos: [start] }) => {
    const key = code === 'DUPLICATE_KEY' ? /^[\w-]{1,64}/.exec(text.slice(start, start + 64))?.[0] : undefined
    return problem(start, MESSAGES.get(code) ?? message, key)
  })
  const lineOf = ({ where = '' }: OrderedProblem) => where.slice(0, where.lastIndexOf(':'))
  const lines = [...new Map(problems.toReversed().map((one) => [lineOf(one), one])).values()].reverse()
  const last = lines[MAX_PROBLEMS - 1]
  if (last === undefined || lines.length === MAX_PROBLEMS) return lines
  return [
    ...lines.slice(0, MAX_PROBLEMS),
    { path: '', message: `and ${lines.length - MAX_PROBLEMS} more`, order: last.order },
  ]
}

/** What is good YAML and still no configuration: aliases to nothing, to themselves or by the hundred, and reserved words as keys. */
function contentProblems(document: Document.Parsed, problem: Report): readonly OrderedProblem[] {
  const problems: OrderedProblem[] = []
  let aliases = 0
  visit(document, {
    Pair(_, pair) {
      const key = isScalar(pair.key) ? String(pair.key.value) : ''
      if (RESERVED.has(key)) problems.push(problem(startOf(pair.key), `${key} cannot be the name of a setting`))
    },
    Alias(_, alias, ancestors) {
      aliases += 1
      if (aliases > MAX_ALIASES) {
        problems.push(problem(startOf(alias), `more than ${MAX_ALIASES} aliases`))
        return visit.BREAK
      }
      const target = alias.resolve(document)
      if (target === undefined)
        problems.push(
          problem(startOf(alias), 'an alias to an anchor that is not there; a value that begins with * must be quoted'),
        )
      else if (ancestors.includes(target)) problems.push(problem(startOf(alias), 'an alias inside its own anchor'))
      return undefined
    },
  })
  return problems
}

interface Converted {
  readonly value: unknown
  readonly problem?: string
}

function toValue(document: Document.Parsed): Converted {
  try {
    return { value: document.toJS({ maxAliasCount: MAX_ALIASES }) ?? undefined }
  } catch (error) {
    // The library throws ReferenceError for aliases of aliases that multiply; anything else is ours.
    if (!(error instanceof ReferenceError)) throw error
    return { value: undefined, problem: 'too many aliases of aliases' }
  }
}

function startOf(node: unknown): number {
  return (node as Node | null)?.range?.[0] ?? 0
}

function spotOf(document: Document.Parsed, path: Path, at: (order: number) => Spot): Spot | undefined {
  const node = nodeAt(document, path)
  if (node === undefined) return undefined
  const isEmpty = node?.range === undefined || node.range === null || node.range[0] === node.range[1]
  const pair = isEmpty ? pairAt(document, path) : undefined
  return at(startOf(pair?.key ?? node))
}

/** Null for a key without a value, undefined where there is nothing. */
function nodeAt(document: Document.Parsed, path: Path): Node | null | undefined {
  const key = path.at(-1)
  if (key === undefined) return document.contents
  const parent = nodeAt(document, path.slice(0, -1))
  if (isSeq(parent)) return resolved(document, parent.items[Number(key)])
  const pair = pairAt(document, path)
  return pair === undefined ? undefined : (resolved(document, pair.value) ?? null)
}

function pairAt(document: Document.Parsed, path: Path): Pair | undefined {
  const key = path.at(-1)
  const parent = key === undefined ? undefined : nodeAt(document, path.slice(0, -1))
  if (!isMap(parent)) return undefined
  return parent.items.find((pair) => isScalar(pair.key) && String(pair.key.value) === String(key))
}

function resolved(document: Document.Parsed, node: unknown): Node | undefined {
  return isAlias(node) ? node.resolve(document) : ((node ?? undefined) as Node | undefined)
}
