// A log that keeps what it is given, for tests that ask what was said.
import type { Logger } from '../../src/filter/context.ts'

export interface LogEntry {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly fields: Readonly<Record<string, unknown>>
  readonly text: string
}

export class FakeLog implements Logger {
  readonly entries: LogEntry[] = []

  debug(fields: object, text: string): void {
    this.#note('debug', fields, text)
  }

  info(fields: object, text: string): void {
    this.#note('info', fields, text)
  }

  warn(fields: object, text: string): void {
    this.#note('warn', fields, text)
  }

  error(fields: object, text: string): void {
    this.#note('error', fields, text)
  }

  /** The texts of one level, in order. */
  texts(level: LogEntry['level']): string[] {
    return this.entries.filter((entry) => entry.level === level).map((entry) => entry.text)
  }

  #note(level: LogEntry['level'], fields: object, text: string): void {
    this.entries.push({ level, fields: { ...fields }, text })
  }
}
