// The outcomes as a table for people: one line for each sample, as wide as a terminal can be expected to be.
// Promise: no line is longer than 100 columns but for a single word that is; nothing in it can act on the terminal (P10); an unexpected
// outcome is marked in its first column and explained below its line.
import { printable } from '../../smtp/reply.ts'
import type { Outcome } from './outcome.ts'

const WIDTH = 100
const GAP = '  '
const MARK = { good: 'ok', bad: '!!' }

interface Row {
  readonly mark: string
  readonly cells: readonly [what: string, answer: string, where: string]
  readonly notes: readonly string[]
}

/** The lines of the table, and of what it comes to. */
export function tableLines(outcomes: readonly Outcome[]): string[] {
  const head: Row = { mark: '  ', cells: ['sent', 'answered', 'where it is, or why not'], notes: [] }
  const rows = [head, ...outcomes.map(row)]
  const widths = [0, 1].map((column) => Math.max(...rows.map(({ cells }) => cells[column]?.length ?? 0)))
  return [...rows.flatMap((r) => rowLines(r, widths)), '', summary(outcomes)]
}

function row({ what, answer, files, problems }: Outcome): Row {
  const { code, text } = splitReply(answer)
  const where = files.length > 0 ? files.join(' ') : `not stored: ${text}`
  return { mark: problems.length === 0 ? MARK.good : MARK.bad, cells: [what, code, printable(where)], notes: problems }
}

// `250 2.0.0 Ok` -> `250 2.0.0` and `Ok`.
function splitReply(answer: string): { code: string; text: string } {
  const [, code = 'none', text = answer] = /^(\d{3}(?:[ -]\d\.\d+\.\d+)?)[ -]?(.*)$/s.exec(answer) ?? []
  return { code, text }
}

function rowLines({ mark, cells: [what, answer, where], notes }: Row, widths: readonly number[]): string[] {
  const start = [mark, what.padEnd(widths[0] ?? 0), answer.padEnd(widths[1] ?? 0)].join(GAP)
  const whole = `${start}${GAP}${where}`
  const lines = whole.length <= WIDTH ? [whole] : [start, ...wrapped(where)]
  return [...lines.map((line) => line.trimEnd()), ...notes.flatMap((note) => wrapped(printable(note)))]
}

/** Words over as many indented lines as they need. */
function wrapped(text: string): string[] {
  const indent = ' '.repeat(MARK.bad.length + GAP.length)
  const lines: string[] = []
  let line = indent
  for (const word of text.split(' ')) {
    if (line.length > indent.length && line.length + word.length > WIDTH) {
      lines.push(line.trimEnd())
      line = indent
    }
    line += `${word} `
  }
  return [...lines, line.trimEnd()]
}

function summary(outcomes: readonly Outcome[]): string {
  const good = outcomes.filter(({ problems }) => problems.length === 0).length
  const all = `${good} of ${outcomes.length} as expected`
  return good === outcomes.length ? all : `${all}; NOT AS EXPECTED: ${outcomes.length - good}, marked ${MARK.bad} above`
}
