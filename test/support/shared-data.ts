// Collections of real mail that are too large or not free enough to be part of the project. Where they are, tests and benchmarks use them:
// in the folder that POSTERN_SHARED_DATA names, or in ../shared/data beside the project.
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const BESIDE = fileURLToPath(new URL('../../../shared/data', import.meta.url))

function archive(name: string): string {
  return join(process.env.POSTERN_SHARED_DATA ?? BESIDE, `${name}.tar.xz`)
}

/** For the option `skip` of a test: why it cannot run, or false. */
export function skipWithoutData(name: string): string | false {
  return existsSync(archive(name)) ? false : `${name}.tar.xz is not here (set POSTERN_SHARED_DATA to its folder)`
}

export function unpackData(name: string, folder: string): void {
  execFileSync('tar', ['xJf', archive(name), '-C', folder])
}
