// What `postern check` found, as values, and the one line that each of them is.
// Promise (P10): what a backend or a file name says cannot break the line or act on the terminal.
import { cleanText } from '../../observe/log.ts'

export type Level = 'ok' | 'note' | 'WARN' | 'FAIL'

export interface Finding {
  readonly level: Level
  readonly what: string
  readonly detail: string
  /** A warning that is grave enough for a negative exit status; a FAIL always is. */
  readonly negative?: true
  /** The backend did not answer at all. */
  readonly unreachable?: true
}

export function finding(level: Level, what: string, detail: string): Finding {
  return { level, what, detail }
}

export function findingLine({ level, what, detail }: Finding): string {
  return cleanText(`${level.padEnd(4)}  ${what}: ${detail}`)
}

/** The text of an error of the system, without its stack. */
export function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
