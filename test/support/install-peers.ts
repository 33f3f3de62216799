// `npm test` runs this first: installs the Debian packages of the programs that the integration tests speak with, where they are missing.
// Promise: nothing is removed, no service is started, and it never fails: where it may not or cannot install, one line names what is
// missing, and the tests that need it skip themselves. With everything there it only looks at the disk.
// Not taken: asking dpkg what is installed. The tests need the commands, whoever brought them.
import { type SpawnSyncReturns, spawnSync } from 'node:child_process'
import { existsSync, unlinkSync, writeFileSync } from 'node:fs'
import { findCommand, PEERS } from './peers.ts'

const TIME_LIMIT = 240_000
// invoke-rc.d and deb-systemd-invoke ask it before they start a service; 101 means no.
const POLICY = '/usr/sbin/policy-rc.d'

const started = Date.now()
const missing = missingPackages()
if (missing.length > 0) {
  const problem = obstacle() ?? install(missing)
  const still = missingPackages()
  const why = problem === undefined ? '' : ` (${problem})`
  if (still.length > 0) process.stderr.write(`not installed${why}, their tests are skipped: ${still.join(', ')}\n`)
}

function missingPackages(): string[] {
  return [...new Set([...PEERS].filter(([name]) => findCommand(name) === undefined).map(([, where]) => where))]
}

function obstacle(): string | undefined {
  if (findCommand('apt-get') === undefined) return 'there is no apt-get'
  if (process.getuid?.() !== 0) return 'only root can install packages'
  return undefined
}

/** Returns why it did not work. */
function install(packages: readonly string[]): string | undefined {
  process.stderr.write(`installing for the integration tests: ${packages.join(', ')}\n`)
  const ownPolicy = !existsSync(POLICY)
  if (ownPolicy) writeFileSync(POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  try {
    // A machine that has its own mail server keeps it: postfix would take its place.
    const wanted = ['install', '-y', '-q', '--no-install-recommends', '--no-remove', ...packages]
    if (aptGet(wanted).status === 0) return undefined
    // The package lists may be old, or there may be none.
    const update = aptGet(['update', '-q'])
    const result = update.status === 0 ? aptGet(wanted) : update
    return result.status === 0 ? undefined : lastLine(result)
  } finally {
    if (ownPolicy) unlinkSync(POLICY)
  }
}

function aptGet(argv: readonly string[]): SpawnSyncReturns<string> {
  // Dpkg::Lock::Timeout: another apt-get may be at work for a moment.
  return spawnSync('apt-get', ['-o', 'DPkg::Lock::Timeout=30', ...argv], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: Math.max(1, TIME_LIMIT - (Date.now() - started)),
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  })
}

function lastLine({ error, stderr, stdout }: SpawnSyncReturns<string>): string {
  if (error !== undefined) return error.message
  return `${stdout}\n${stderr}`.trim().split('\n').at(-1) ?? ''
}
