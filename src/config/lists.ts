// Lists in files of their own: an entry `file:NAME` of a list stands for the lines of that file. One entry a line, `#` begins a comment,
// blank lines are skipped. Every entry keeps its place, so that an error names the line of the list and not the configuration.
// Not taken: lists that name lists; they make loops, and nobody finds an entry three files away.
import { resolve } from 'node:path'
import { readTextFile } from './text-file.ts'

const LIMIT = 16 * 1024 ** 2
const PREFIX = 'file:'

export interface ListEntry {
  readonly text: string
  /** Index of the entry of the configuration that it came from. */
  readonly index: number
  /** `domains.txt:3`; undefined for an entry that stands in the configuration itself. */
  readonly where: string | undefined
}

export interface ListProblem {
  readonly index: number
  readonly where: string | undefined
  readonly message: string
}

export interface ExpandedList {
  readonly entries: readonly ListEntry[]
  readonly problems: readonly ListProblem[]
}

/** Replaces `file:NAME` by the lines of the file; NAME is relative to `baseDir`. Never throws: what is wrong is in `problems`. */
export function expandLists(entries: readonly string[], baseDir: string): ExpandedList {
  const parts = entries.map((text, index) => {
    if (!text.startsWith(PREFIX)) return { entries: [{ text, index, where: undefined }], problems: [] }
    return listFile(text.slice(PREFIX.length).trim(), index, baseDir)
  })
  return { entries: parts.flatMap((part) => part.entries), problems: parts.flatMap((part) => part.problems) }
}

function listFile(name: string, index: number, baseDir: string): ExpandedList {
  const failed = (message: string) => ({ entries: [], problems: [{ index, where: undefined, message }] })
  if (name === '') return failed('expected the name of a file after file:')
  const file = readTextFile(resolve(baseDir, name), LIMIT)
  if ('problem' in file) return failed(`${resolve(baseDir, name)}: ${file.problem}`)
  const lines = linesOf(file.text).map((line) => ({ text: line.text, index, where: `${name}:${line.number}` }))
  const nested = lines.filter(({ text }) => text.startsWith(PREFIX))
  return {
    entries: lines.filter(({ text }) => !text.startsWith(PREFIX)),
    problems: nested.map(({ where }) => ({ index, where, message: 'a list cannot name another list' })),
  }
}

function linesOf(text: string): readonly { text: string; number: number }[] {
  return text
    .split(/\r\n|\n|\r/)
    .map((line, index) => ({ text: withoutComment(line), number: index + 1 }))
    .filter((line) => line.text !== '')
}

/** `#` begins a comment at the start of a line or after a blank: an address may have one inside its local part. */
function withoutComment(line: string): string {
  return line.replace(/(^|\s)#.*$/, '').trim()
}
