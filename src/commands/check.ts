// postern check: tries the configuration out without taking mail. One line a finding: `ok|note|WARN|FAIL  what: detail`.
// Promise: it builds what `postern run` builds, by the same code, so what it finds well will start; it sends no mail and keeps nothing open.
// The exit status is for scripts: 0 nothing failed, 1 something did or somebody relays, 69 no backend answers, 78 the configuration.
import { Command } from 'commander'
import { App } from '../app.ts'
import { type LoadedConfig, loadConfig } from '../config/load.ts'
import { ConfigError } from '../config/problem.ts'
import { openLog } from '../observe/log.ts'
import { ScoresError } from '../rules/scores.ts'
import { serverFindings } from './check/backend.ts'
import { addressFindings, maildirFinding, spoolFindings } from './check/places.ts'
import { type Finding, finding, findingLine } from './check/report.ts'
import { settingFindings } from './check/settings.ts'
import { EXIT, say, whenReaderLeaves } from './exit.ts'

export function checkCommand(): Command {
  return new Command('check')
    .description('try the configuration out: files, ports, disk, backend, and an open-relay probe')
    .option('-c, --config <file>', 'configuration file (default: postern.yaml, if there is one)')
    .action(async ({ config }: { config?: string }) => {
      whenReaderLeaves()
      process.exitCode = await check({ path: config, print: say })
      // A plugin may keep something running that only the end of the process ends.
      setTimeout(() => process.exit(), 1000).unref()
    })
}

export interface CheckOptions {
  readonly path: string | undefined
  readonly print: (line: string) => void
}

/** Tries everything out; resolves to the exit status. */
export async function check({ path, print }: CheckOptions): Promise<number> {
  const findings: Finding[] = []
  const report = (...found: readonly Finding[]) => {
    findings.push(...found)
    for (const each of found) print(findingLine(each))
  }
  try {
    const loaded = loadConfig({ path })
    report(finding('ok', 'configuration', loaded.file ?? 'no file, all settings have their defaults'))
    report(...settingFindings(loaded.config))
    report(await buildFinding(loaded))
    report(...(await spoolFindings(loaded)))
    report(...(await addressFindings(loaded.config)))
    const servers = loaded.config.backend?.servers
    if (servers === undefined) report(await maildirFinding(loaded))
    for (const server of servers ?? []) report(...(await serverFindings(server, loaded)))
    return statusOf(findings, servers?.length ?? 0)
  } catch (error) {
    if (!(error instanceof ConfigError || error instanceof ScoresError)) throw error
    report(...error.message.split('\n').map((problem) => finding('FAIL', 'configuration', problem)))
    return EXIT.configuration
  }
}

/** Builds the gateway as `run` does: rules, filters, plugins, spool folder. */
async function buildFinding(loaded: LoadedConfig): Promise<Finding> {
  const { log, plugins } = loaded.config
  const app = await App.create({ loaded, log: openLog({ ...log, level: 'warn' }) })
  await app.stop()
  const names = plugins.length === 0 ? 'no plugins' : `plugins ${plugins.join(', ')}`
  return finding('ok', 'scores and filters', `no problem; ${names}`)
}

function statusOf(findings: readonly Finding[], servers: number): number {
  const unreachable = findings.filter((found) => found.unreachable).length
  if (servers > 0 && unreachable === servers) return EXIT.unavailable
  return findings.some((found) => found.level === 'FAIL' || found.negative) ? EXIT.negative : EXIT.ok
}
