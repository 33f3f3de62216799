// The foreign programs that the integration tests and the benchmarks speak with, and where they are.
// Promise: a test whose program is missing is skipped with its name and the package it comes in, never passed over in silence.
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Command and the Debian package that brings it. */
export const PEERS: ReadonlyMap<string, string> = new Map([
  ['swaks', 'swaks'],
  ['smtp-source', 'postfix'],
  ['smtp-sink', 'postfix'],
  ['postfix', 'postfix'],
  ['python3', 'python3'],
])

// Where Debian keeps Postfix; the PATH of an ordinary user does not hold these.
const SYSTEM_FOLDERS = ['/usr/sbin', '/usr/local/sbin', '/sbin']

/** The file of a command, or undefined where it is not installed. */
export function findCommand(name: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), ...SYSTEM_FOLDERS]
  return folders.map((folder) => join(folder, name)).find(isExecutable)
}

/** The file of a command that is there: behind `skipWithout`. */
export function peer(name: string): string {
  const file = findCommand(name)
  if (file === undefined) throw new Error(`${name} is not installed`)
  return file
}

/** For the option `skip` of a test: why it cannot run, or false. */
export function skipWithout(...names: readonly string[]): string | false {
  const missing = names.filter((name) => findCommand(name) === undefined)
  if (missing.length === 0) return false
  return `not installed: ${missing.map((name) => `${name} (Debian package ${PEERS.get(name) ?? name})`).join(', ')}`
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}
