// What the gateway needs of this machine: addresses to listen on, folders to write to, room on the disk.
// Promise: what is tried is undone at once; listeners are closed, files removed. The folders themselves are made, as `postern run` would.
import { randomBytes } from 'node:crypto'
import { open, statfs, unlink } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join, resolve } from 'node:path'
import { maildirPath } from '../../assemble.ts'
import type { LoadedConfig } from '../../config/load.ts'
import type { Config } from '../../config/schema.ts'
import type { HostPort } from '../../config/values.ts'
import { systemClock } from '../../net/clock.ts'
import { MaildirDestination } from '../../proxy/maildir-destination.ts'
import { adviceFor } from '../exit.ts'
import { errorText, type Finding, finding } from './report.ts'

/** Tries to listen on every address, one after the other. */
export async function addressFindings({ listeners, admin }: Config): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const { name, address } of listeners) findings.push(await tryAddress(`listener ${name}`, address))
  if (admin.address !== 'off') findings.push(await tryAddress('admin', admin.address))
  return findings
}

async function tryAddress(what: string, { host, port }: HostPort): Promise<Finding> {
  const shown = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
  try {
    await listenOnce(host, port)
    return finding('ok', what, `${shown} can be had`)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : ''
    if (code === 'EADDRINUSE') return finding('note', what, `${shown} is in use: is Postern running already?`)
    return finding('FAIL', what, `${errorText(error)}${adviceFor(code)}`)
  }
}

function listenOnce(host: string, port: number): Promise<void> {
  return new Promise((done, reject) => {
    const server = createServer((socket) => socket.destroy())
    server.once('error', reject)
    server.listen({ host, port }, () => server.close(() => done()))
  })
}

/** Whether data_dir takes files, and whether its disk has more room than the reserve. */
export async function spoolFindings({ config, baseDir }: LoadedConfig): Promise<Finding[]> {
  const dataDir = resolve(baseDir, config.data_dir)
  const spool = join(dataDir, 'spool')
  return [await tryFolder('data_dir', dataDir, spool), await roomFinding(spool, config.limits)]
}

async function roomFinding(spool: string, limits: Config['limits']): Promise<Finding> {
  const { spool_reserve: reserve, message_size: largest } = limits
  let free: number
  try {
    const { bavail, bsize } = await statfs(spool)
    free = bavail * bsize
  } catch (error) {
    return finding('FAIL', 'spool', errorText(error))
  }
  const detail = `${mebibytes(free)} free, ${mebibytes(reserve)} of it kept in reserve`
  if (free < reserve) return finding('FAIL', 'spool', `${detail}: all mail would be deferred (452 4.3.1)`)
  if (free - reserve >= largest) return finding('ok', 'spool', detail)
  return finding('WARN', 'spool', `${detail}: no room for one message of ${mebibytes(largest)}`)
}

function mebibytes(octets: number): string {
  return `${(octets / 1024 ** 2).toFixed(octets < 10 * 1024 ** 2 ? 1 : 0)} MiB`
}

/** Whether the Maildir takes files; its folders are made. */
export async function maildirFinding(loaded: LoadedConfig): Promise<Finding> {
  const path = maildirPath(loaded)
  try {
    await new MaildirDestination({ path, hostname: loaded.config.hostname, clock: systemClock }).learn()
  } catch (error) {
    return finding('FAIL', 'maildir', errorText(error))
  }
  return tryFolder('maildir', path, join(path, 'tmp'))
}

/** Writes a file in `folder` and removes it; `shown` is what the operator knows the place by. */
async function tryFolder(what: string, shown: string, folder: string): Promise<Finding> {
  const file = join(folder, `check-${randomBytes(8).toString('hex')}`)
  try {
    const handle = await open(file, 'wx', 0o600)
    try {
      await handle.write('postern check\n')
      await handle.sync()
    } finally {
      await handle.close()
      await unlink(file)
    }
    return finding('ok', what, `${shown} takes files`)
  } catch (error) {
    return finding('FAIL', what, errorText(error))
  }
}
