// Reads a text file that an operator wrote: bounded, UTF-8, and with a reason in words instead of an errno.
// Not taken: readFileSync, which has no bound and puts replacement characters where the bytes are not UTF-8.
import { closeSync, openSync, readSync } from 'node:fs'

export type TextFile = { readonly text: string } | { readonly missing: boolean; readonly problem: string }

const REASONS = new Map([
  ['ENOENT', 'there is no such file'],
  ['ENOTDIR', 'there is no such file'],
  ['EISDIR', 'this is a folder, not a file'],
  ['EACCES', 'no permission to read this file'],
  ['EPERM', 'no permission to read this file'],
])

/** The text of a file of at most `limit` octets, without a byte order mark; or what is wrong with it. */
export function readTextFile(path: string, limit: number): TextFile {
  try {
    const bytes = readBounded(path, limit)
    if (bytes === undefined) return { missing: false, problem: `larger than ${limit / 1024 ** 2} MiB` }
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) }
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : ''
    if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA') return { missing: false, problem: 'not a text in UTF-8' }
    return { missing: code === 'ENOENT', problem: REASONS.get(code) ?? `cannot be read (${code || 'unknown error'})` }
  }
}

/** Undefined where the file is larger. The size is not asked beforehand: a pipe has none, and a file may grow. */
function readBounded(path: string, limit: number): Buffer | undefined {
  const chunks: Buffer[] = []
  let total = 0
  const file = openSync(path, 'r')
  try {
    for (;;) {
      const chunk = Buffer.allocUnsafe(65536)
      const count = readSync(file, chunk)
      if (count === 0) return Buffer.concat(chunks, total)
      total += count
      if (total > limit) return undefined
      chunks.push(chunk.subarray(0, count))
    }
  } finally {
    closeSync(file)
  }
}
