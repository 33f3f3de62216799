// rules/scores.yaml: what each symbol weighs, and from which line that comes.
// Promise: the shipped file is read-only; the site's file is laid over it symbol by symbol, so an upgrade never overwrites tuning; a file with
// an error is refused as a whole with file:line, and every weight can say where it stands.
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { isMap, isScalar, LineCounter, parseDocument } from 'yaml'

export interface Score {
  readonly score: number
  /** `scores.yaml:12` */
  readonly source: string
}

export class ScoresError extends Error {
  override readonly name = 'ScoresError'
}

const SYMBOL = /^[A-Z][A-Z0-9_]{0,63}$/
const SCORE_MAX = 1000
const NO_WEIGHT: Score = { score: 0, source: 'no weight' }

/** The weights of one or more files, later ones over earlier ones. */
export class Scores {
  readonly #bySymbol: ReadonlyMap<string, Score>

  private constructor(bySymbol: ReadonlyMap<string, Score>) {
    this.#bySymbol = bySymbol
  }

  /** Reads the files in order; throws ScoresError. */
  static load(files: readonly string[]): Scores {
    return new Scores(new Map(files.flatMap((file) => [...parseScores(readScores(file), file)])))
  }

  of(symbol: string): Score {
    return this.#bySymbol.get(symbol) ?? NO_WEIGHT
  }
}

function readScores(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new ScoresError(`${file}: ${error instanceof Error ? error.message : String(error)}`)
  }
}

/** Parses one file: a mapping from symbol to number. Throws ScoresError with every problem, one a line. */
export function parseScores(text: string, file: string): Map<string, Score> {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, prettyErrors: false })
  const at = (offset: number) => lines.linePos(offset)
  const problems = document.errors.map((e) => `${file}:${at(e.pos[0]).line}:${at(e.pos[0]).col}: ${e.message}`)
  const scores = new Map<string, Score>()
  const { contents } = document
  const empty = contents === null || (isScalar(contents) && contents.value === null) // nothing, or `---` and nothing
  if (!empty && !isMap(contents)) problems.push(`${file}:1:1: expected lines such as 'SYMBOL: 1.5'`)
  for (const { key, value } of isMap(contents) ? contents.items : []) {
    const where = isScalar(key) ? at(key.range?.[0] ?? 0) : { line: 1, col: 1 }
    const symbol = isScalar(key) ? String(key.value) : ''
    const score = isScalar(value) ? value.value : undefined
    if (!SYMBOL.test(symbol))
      problems.push(`${file}:${where.line}:${where.col}: '${symbol.slice(0, 64)}' is no symbol (A-Z, 0-9, _)`)
    else if (typeof score !== 'number' || !(Math.abs(score) <= SCORE_MAX)) {
      problems.push(
        `${file}:${where.line}:${where.col}: ${symbol}: expected a number from -${SCORE_MAX} to ${SCORE_MAX}`,
      )
    } else scores.set(symbol, { score, source: `${basename(file)}:${where.line}` })
  }
  if (problems.length > 0) throw new ScoresError(problems.join('\n'))
  return scores
}
