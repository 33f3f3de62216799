// The conformance runner: black-box cases from a YAML file against a running gateway with a scripted backend.
//   node test/conformance/run.ts [--cases FILE] [--only ID,…] [--jobs N] [--json] [--all] [--gateway MODULE]
// Exit status: 0 where no case fails, 1 where one does, 64 for a wrong command line or a case file that cannot be read.
// Not taken: node:test for the cases. They run in several processes at a time, from files that are not known beforehand.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { type AnyCase, type CaseFile, CaseFileError, parseCaseFile, type TestCase } from './case-file.ts'
import { CertificateMaker } from './certificates.ts'
import { type Report, summary, toJson, toText } from './report.ts'
import { type RunSettings, runCase } from './run-case.ts'
import { waitingReason } from './waits.ts'

const EXIT_OK = 0
const EXIT_FAILED = 1
const EXIT_USAGE = 64

const STANDARD_CASES = fileURLToPath(new URL('./smtp-cases.yaml', import.meta.url))
const GATEWAY = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const PACKAGE = new URL('../../package.json', import.meta.url)

interface Request {
  readonly cases: readonly AnyCase[]
  readonly jobs: number
  readonly json: boolean
  /** Run the waiting cases too. */
  readonly all: boolean
  readonly gateway: string
}

class UsageError extends Error {}

function readRequest(argv: readonly string[]): Request {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      cases: { type: 'string', default: STANDARD_CASES },
      only: { type: 'string' },
      jobs: { type: 'string', default: '4' },
      json: { type: 'boolean', default: false },
      all: { type: 'boolean', default: false },
      gateway: { type: 'string', default: GATEWAY },
    },
  })
  const jobs = Number(values.jobs)
  if (!Number.isInteger(jobs) || jobs < 1) throw new UsageError('--jobs takes a number above 0')
  const { cases } = readCases(values.cases)
  const { json, all } = values
  return { cases: chosen(cases, values.only), jobs, json, all, gateway: resolve(values.gateway) }
}

/** Files of other people may lean on the vars and preludes of the standard file. */
function readCases(file: string): CaseFile {
  const standard = parseCaseFile(readFileSync(STANDARD_CASES, 'utf8'))
  return parseCaseFile(readFileSync(file, 'utf8'), standard)
}

function chosen(cases: readonly AnyCase[], only: string | undefined): readonly AnyCase[] {
  if (only === undefined) return cases
  const ids = only.split(',').map((id) => id.trim())
  const unknown = ids.find((id) => !cases.some((one) => one.id === id))
  if (unknown !== undefined) throw new UsageError(`no case ${unknown}`)
  return cases.filter((one) => ids.includes(one.id))
}

async function runAll(request: Request, settings: RunSettings, onReport: (report: Report) => void): Promise<Report[]> {
  const reports: (Report | undefined)[] = request.cases.map(() => undefined)
  let shown = 0
  const queue = request.cases
    .map((testCase, index) => ({ testCase, index }))
    .sort((a, b) => patience(b.testCase) - patience(a.testCase))
  const worker = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      reports[next.index] = await reportOn(next.testCase, request, settings)
      // Shown in the order of the file, each as soon as those before it are done.
      for (let report = reports[shown]; report !== undefined; report = reports[++shown]) onReport(report)
    }
  }
  await Promise.all(Array.from({ length: request.jobs }, worker))
  return reports.filter((report) => report !== undefined)
}

async function reportOn(testCase: AnyCase, request: Request, settings: RunSettings): Promise<Report> {
  const { id, title, area, profile } = testCase
  const named = { id, title, area, profile, details: [] }
  if ('error' in testCase) return { ...named, status: 'fail', reason: testCase.error, ms: 0 }
  const waiting = request.all ? undefined : waitingReason(testCase)
  if (waiting !== undefined) return { ...named, status: 'waits', reason: waiting, ms: 0 }
  const start = performance.now()
  const { reason, details } = await runCase(testCase, settings)
  const ms = Math.round(performance.now() - start)
  return { ...named, status: reason === undefined ? 'pass' : 'fail', reason, details, ms }
}

/** Milliseconds that a case waits by its own words: the longest begin first, so that none is left alone at the end. */
function patience(testCase: AnyCase): number {
  if ('error' in testCase) return 0
  return testCase.variants.reduce((sum, variant) => sum + patienceOf(variant), 0)
}

function patienceOf({ steps, backend }: TestCase['variants'][number]): number {
  const waits = steps.map((step) => (step.kind === 'wait_ms' ? step.argument : 0))
  const delays = backend.map((rule) => ('at' in rule ? (rule.ms ?? 0) : 0))
  return [...waits, ...delays].reduce((sum, one) => sum + one, 500)
}

async function main(argv: readonly string[]): Promise<number> {
  const request = readRequest(argv)
  const folder = mkdtempSync(join(tmpdir(), 'postern-conformance-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(EXIT_FAILED))
  const version = String(JSON.parse(readFileSync(PACKAGE, 'utf8')).version)
  const settings = {
    entry: request.gateway,
    folder,
    certificates: new CertificateMaker(folder),
    gatewayVersion: version,
  }
  const reports = await runAll(request, settings, (report) => {
    if (!request.json) process.stdout.write(`${toText(report)}\n`)
  })
  const counts = summary(reports)
  process.stdout.write(
    request.json ? `${toJson(reports)}\n` : `${counts.pass} passed, ${counts.fail} failed, ${counts.waits} waiting\n`,
  )
  return counts.fail === 0 ? EXIT_OK : EXIT_FAILED
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  const usage = error instanceof UsageError || error instanceof CaseFileError || isArgumentError(error)
  process.stderr.write(
    `conformance: ${error instanceof Error ? (usage ? error.message : error.stack) : String(error)}\n`,
  )
  process.exitCode = usage ? EXIT_USAGE : EXIT_FAILED
}

/** A wrong option, or a file that is not there. */
function isArgumentError(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  return code.startsWith('ERR_PARSE_ARGS') || ['ENOENT', 'EISDIR', 'EACCES'].includes(code)
}
