// Exit statuses of all commands (sysexits.h), and how a command ends with an error.
import { ConfigError } from '../config/problem.ts'
import { ScoresError } from '../rules/scores.ts'

export const EXIT = { ok: 0, negative: 1, usage: 64, unavailable: 69, configuration: 78 } as const

/** Writes to standard output: the answer of a command, as opposed to its log. */
export function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** The reader of the answer may leave before its end (`| head`): that is no failure. */
export function whenReaderLeaves(act: () => void = () => {}): void {
  process.stdout.on('error', act)
}

/** Writes to standard error. */
export function complain(text: string): void {
  process.stderr.write(`${text}\n`)
}

/** Says what went wrong and returns the exit status for it. Errors that are none of the operator's making are thrown on. */
export function explainFailure(error: unknown): number {
  if (error instanceof ConfigError || error instanceof ScoresError) {
    complain(error.message)
    return EXIT.configuration
  }
  if (isSystemError(error)) {
    complain(`${error.message}${adviceFor(error.code)}`)
    return EXIT.unavailable
  }
  throw error
}

function isSystemError(error: unknown): error is Error & { code: string } {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && 'syscall' in error
}

/** What to do about an error of the system, or nothing. */
export function adviceFor(code: string): string {
  if (code === 'EADDRINUSE') return ' (something listens there already: stop it, or change the address)'
  if (code === 'EACCES') return ' (ports below 1024 need root or CAP_NET_BIND_SERVICE)'
  if (code === 'EADDRNOTAVAIL') return ' (this machine has no such address)'
  return ''
}
