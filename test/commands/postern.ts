// The command `postern` as a process of its own, in a folder of its own, with nothing of the environment that could configure it.
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))

export interface Ended {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** A fresh folder that is gone after the test. */
export function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'postern-test-'))
  t.after(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** Starts it in `cwd`, which is its folder for temporary files too. It is killed at the end of the test if it still runs. */
export function start(t: TestContext, cwd: string, args: readonly string[]): ChildProcessWithoutNullStreams {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith('POSTERN_'))
  const env = { ...Object.fromEntries(own), TMPDIR: cwd }
  const child = spawn(process.execPath, [MAIN, ...args], { cwd, env })
  child.stdin.end()
  t.after(() => child.kill('SIGKILL'))
  return child
}

/** Runs it to its end. */
export async function postern(t: TestContext, cwd: string, args: readonly string[]): Promise<Ended> {
  const child = start(t, cwd, args)
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  return { status: child.exitCode, stdout, stderr }
}
