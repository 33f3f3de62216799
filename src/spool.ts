// The folder for spool files: made and swept at the start, and asked for its free space.
// Promise: a disk that cannot be asked counts as full, so that mail is deferred and not lost half way.
import { mkdir, readdir, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { ConfigError } from './config/problem.ts'
import type { Clock } from './net/clock.ts'
import type { Log } from './observe/log.ts'

const ROOM_CACHE = 2000

/** Makes the folder; throws ConfigError where that cannot be. */
export async function prepareSpool(spoolDir: string): Promise<string> {
  try {
    await mkdir(spoolDir, { recursive: true, mode: 0o700 })
  } catch (error) {
    const message = `${spoolDir} cannot be used: ${error instanceof Error ? error.message : String(error)}`
    throw new ConfigError([{ path: 'data_dir', message }])
  }
  return spoolDir
}

/**
 * Removes what a crash between opening a spool file and unlinking it left behind: the sender still has that message (P1). Only for a gateway
 * that runs: `check` may look at the folder of another one.
 */
export async function sweepSpool(spoolDir: string): Promise<void> {
  for (const name of await readdir(spoolDir)) {
    if (name.endsWith('.msg')) await rm(join(spoolDir, name), { force: true })
  }
}

interface RoomOptions {
  readonly dir: string
  /** Octets to keep free. */
  readonly reserve: number
  readonly clock: Clock
  readonly log: Log
}

// Asking the disk for every MAIL would be dear; two seconds of other people's mail are what the reserve is for.
/** Whether that many octets fit beside the reserve. */
export function roomChecker({ dir, reserve, clock, log }: RoomOptions): (octets: number) => Promise<boolean> {
  let free: Promise<number> | undefined
  let asked = Number.NEGATIVE_INFINITY
  return async (octets) => {
    if (free === undefined || clock.now() - asked > ROOM_CACHE) {
      asked = clock.now()
      free = freeSpace(dir, log)
    }
    return (await free) - reserve >= octets
  }
}

async function freeSpace(dir: string, log: Log): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(dir)
    return bavail * bsize
  } catch (error) {
    log.error(
      { dir, error: String(error) },
      'the disk of data_dir cannot be asked for its free space: mail is deferred',
    )
    return 0
  }
}
