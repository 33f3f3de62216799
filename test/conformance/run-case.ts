// One case from start to end: backend, gateway, dialogue, checks, and the invariants that hold for all cases.
// Promise: everything that a case starts is ended before its result is given, whatever went wrong.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { stringify } from 'yaml'
import { configFor, nodeOptions } from './adapter.ts'
import { HarnessEvents } from './backend-record.ts'
import { type Step, show, type TestCase, type Variant } from './case-file.ts'
import type { CertificateMaker } from './certificates.ts'
import { runChecks } from './checks.ts'
import { Connection, type Watch } from './client.ts'
import { FakeBackend } from './fake-backend.ts'
import type { Checks } from './format.ts'
import { freePort, Gateway, GatewayStartError } from './gateway.ts'
import { ReplyChecker } from './invariants.ts'
import { type Dialogue, StepFailure, StepRunner } from './steps.ts'
import { builtFeatures, neededFeatures } from './waits.ts'

export interface RunSettings {
  readonly entry: string
  /** Temporary folder of the whole run. */
  readonly folder: string
  readonly certificates: CertificateMaker
  readonly gatewayVersion: string
}

export interface CaseResult {
  readonly reason: string | undefined
  /** Dialogue and log, for a case that failed. */
  readonly details: readonly string[]
}

const CASE_LIMIT = 180_000
// How long a check may take to come true: the backend hears of things a moment after the client.
const SETTLE_LIMIT = 2000
// A backend that hangs may hold up the greeting.
const FRESH_LIMIT = 15_000
const PASSED: CaseResult = { reason: undefined, details: [] }

/** Runs every value of `for_each`; the first failure is the result. */
export async function runCase(testCase: TestCase, settings: RunSettings): Promise<CaseResult> {
  for (const variant of testCase.variants) {
    const run = new CaseRun(testCase, variant, settings)
    const result = await run.run()
    if (result.reason !== undefined) {
      return variant.label === undefined ? result : { ...result, reason: `${variant.label}: ${result.reason}` }
    }
  }
  return PASSED
}

class CaseRun {
  readonly #case: TestCase
  readonly #variant: Variant
  readonly #settings: RunSettings
  readonly #events = new HarnessEvents()
  readonly #transcript: string[] = []
  readonly #violations: string[] = []
  readonly #extra: Connection[] = []
  #folder = ''
  #backend: FakeBackend | undefined
  #gateway: Gateway | undefined
  #watch: Watch | undefined
  #connections = 0

  constructor(testCase: TestCase, variant: Variant, settings: RunSettings) {
    this.#case = testCase
    this.#variant = variant
    this.#settings = settings
  }

  async run(): Promise<CaseResult> {
    this.#folder = await mkdtemp(join(this.#settings.folder, 'case-'))
    const limit = new AbortController()
    try {
      const tooLong = sleep(CASE_LIMIT, [`the case took more than ${CASE_LIMIT} ms`], { signal: limit.signal })
      const complaints = await Promise.race([this.#everything(), tooLong])
      return complaints.length === 0 ? PASSED : { reason: complaints.join('\n'), details: this.#details() }
    } catch (error) {
      const text = error instanceof GatewayStartError ? error.message : `error: ${describe(error)}`
      return { reason: text, details: this.#details() }
    } finally {
      limit.abort()
      for (const connection of this.#extra) connection.destroy()
      await this.#gateway?.stop()
      await this.#backend?.close()
      await rm(this.#folder, { recursive: true, force: true })
    }
  }

  async #everything(): Promise<string[]> {
    const { rules, auth } = { rules: this.#variant.backend, auth: this.#case.profile.startsWith('submission') }
    const certificate = () => this.#settings.certificates.get()
    const backend = await FakeBackend.listen({ rules, auth, events: this.#events, certificate })
    this.#backend = backend
    this.#watch = this.#makeWatch(backend)
    const gateway = await this.#start(backend)
    this.#gateway = gateway
    const memory = new MemoryGauge(gateway)
    if (this.#variant.check.proxy?.rss_growth_mb_max !== undefined) await memory.start()
    const runner = new StepRunner(this.#dialogue(gateway))
    try {
      const failure = await this.#steps(runner)
      if (failure !== undefined) return [failure, ...this.#invariants(backend)]
      const observe = () => ({
        record: backend.record,
        log: gateway.log,
        alive: gateway.alive,
        memoryGrowth: memory.growth,
      })
      const complaints = await this.#settle(() => runChecks(this.#variant.check, observe()))
      runner.end()
      const afterwards = await this.#afterwards(gateway)
      // Asked again now that the client is gone: a late octet to the backend is as wrong as an early one.
      const again = await this.#settle(() => runChecks(withoutAborts(this.#variant.check), observe()))
      const stillWrong = complaints.filter((text) => text.startsWith('backend.aborted: expected false'))
      return [...stillWrong, ...again, ...afterwards, ...this.#invariants(backend)]
    } finally {
      memory.stop()
      runner.end()
    }
  }

  async #steps(runner: StepRunner): Promise<string | undefined> {
    for (const step of this.#variant.steps) {
      try {
        this.#transcript.push(`-- step ${step.where}: ${label(step)}`)
        await runner.run(step)
      } catch (error) {
        if (!(error instanceof StepFailure)) throw error
        return `step ${step.where} (${step.kind}): ${error.message}`
      }
    }
    return undefined
  }

  /** Repeats the checks until they hold or time is over, but never looks only once: what must not happen needs a moment to happen. */
  async #settle(check: () => Promise<string[]>): Promise<string[]> {
    const deadline = Date.now() + SETTLE_LIMIT
    await sleep(100)
    for (;;) {
      const complaints = await check()
      if (complaints.length === 0 || Date.now() > deadline) return complaints
      await sleep(50)
    }
  }

  async #afterwards(gateway: Gateway): Promise<string[]> {
    if (this.#variant.check.proxy?.alive === false) return []
    if (!(await gateway.ready())) return ['invariant: the gateway is not alive after the case']
    if (this.#case.profile === 'mx_pp_untrusted') return []
    return (await this.#accepts(FRESH_LIMIT)) ? [] : ['invariant: a fresh connection was not greeted after the case']
  }

  #invariants(backend: FakeBackend): string[] {
    return [...new Set([...this.#violations, ...backend.record.violations])].map((text) => `invariant: ${text}`)
  }

  #dialogue(gateway: Gateway): Dialogue {
    return {
      gateway,
      events: this.#events,
      open: (source) => this.#open(source),
      accepts: (within) => this.#accepts(within),
    }
  }

  #open(source?: string): Promise<Connection> {
    const watch = this.#watch
    const port = this.#gateway?.port
    if (watch === undefined || port === undefined) throw new Error('no gateway')
    const name = `c${++this.#connections}`
    return Connection.open({ port, source, name, proxyHeader: this.#case.profile.startsWith('mx_pp'), watch })
  }

  /** Tries connections until one is greeted. A backend that is away may be the reason for a 421 in place of the greeting. */
  async #accepts(within: number): Promise<boolean> {
    const deadline = Date.now() + within
    const backendAway = this.#variant.backend.some((rule) => 'at' in rule && ['CONNECT', 'EHLO'].includes(rule.at))
    const greeting = backendAway ? /^(220|421)[ -]/ : /^220[ -]/
    while (Date.now() < deadline) {
      if (await this.#isGreeted(greeting, deadline - Date.now())) return true
      await sleep(50)
    }
    return false
  }

  async #isGreeted(greeting: RegExp, patience: number): Promise<boolean> {
    let connection: Connection
    try {
      connection = await this.#open()
    } catch {
      return false
    }
    this.#extra.push(connection)
    try {
      if (this.#case.profile === 'mx_pp') {
        await connection.write(Buffer.from('PROXY TCP4 192.0.2.55 192.0.2.1 5555 25\r\n'), patience)
      }
      if (this.#case.profile === 'submissions' && !(await connection.startTls({ result: 'ok' }, patience)).ok)
        return false
      const reply = await connection.nextReply(patience)
      return typeof reply !== 'string' && greeting.test(reply.text)
    } finally {
      connection.destroy()
    }
  }

  #makeWatch(backend: FakeBackend): Watch {
    const forced = /X-Test-Verdict: *(?:discard|quarantine)/i
    const checker = new ReplyChecker({
      backendPort: backend.port,
      gatewayVersion: this.#settings.gatewayVersion,
      scriptedReplies: this.#variant.backend.flatMap((rule) =>
        'at' in rule && rule.reply !== undefined ? [rule.reply] : [],
      ),
      acceptedByBackend: () => backend.record.acceptedDots,
      localDisposition: this.#variant.steps.some((step) => step.kind === 'send' && forced.test(step.argument)),
    })
    return {
      checker,
      violation: (text) => this.#violations.push(text),
      note: (line) => this.#transcript.push(line),
    }
  }

  async #start(backend: FakeBackend): Promise<Gateway> {
    for (let attempt = 1; ; attempt++) {
      const port = await freePort()
      try {
        return await Gateway.start(await this.#gatewayOptions(port, backend.port))
      } catch (error) {
        // Another case was quicker to take the port.
        if (!(error instanceof GatewayStartError && error.portTaken && attempt < 3)) throw error
      }
    }
  }

  async #gatewayOptions(port: number, backendPort: number) {
    const dataDir = join(this.#folder, 'data')
    await mkdir(dataDir, { recursive: true })
    const certificate = () => this.#settings.certificates.get()
    const features = new Set([...builtFeatures(), ...neededFeatures(this.#case)])
    const config = await configFor(this.#case, this.#variant, { port, backendPort, dataDir, features, certificate })
    const file = join(this.#folder, 'postern.yaml')
    await writeFile(file, stringify(config))
    return {
      entry: this.#settings.entry,
      config: file,
      folder: this.#folder,
      port,
      nodeOptions: nodeOptions(this.#variant),
      compileCache: join(this.#settings.folder, 'compile-cache'),
      events: this.#events,
    }
  }

  #details(): string[] {
    const backend = this.#backend?.record.dialogue ?? []
    const log = this.#gateway?.log.trimEnd().split('\n') ?? []
    return [
      ...lastOf(this.#transcript, 60),
      '-- backend',
      ...lastOf(backend, 40),
      '-- log of the gateway',
      ...lastOf(log, 25).map((line) => show(line, 1000)),
    ]
  }
}

/** Highest memory in use during the case, over what was in use before it. */
class MemoryGauge {
  readonly #gateway: Gateway
  #before: number | undefined
  #most = 0
  #timer: NodeJS.Timeout | undefined

  constructor(gateway: Gateway) {
    this.#gateway = gateway
  }

  get growth(): number | undefined {
    return this.#before === undefined ? undefined : this.#most - this.#before
  }

  async start(): Promise<void> {
    this.#before = await this.#gateway.memory()
    this.#most = this.#before ?? 0
    this.#timer = setInterval(() => void this.#sample(), 50)
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  async #sample(): Promise<void> {
    this.#most = Math.max(this.#most, (await this.#gateway.memory()) ?? 0)
  }
}

/** The end of the client's connections aborts what was open: `aborted: false` is asked before, and then not again. */
function withoutAborts(check: Checks): Checks {
  if (check.backend?.aborted !== false) return check
  const { aborted: _, ...backend } = check.backend
  return { ...check, backend }
}

function label(step: Step): string {
  const text = step.argument instanceof RegExp ? String(step.argument) : JSON.stringify(step.argument)
  return `${step.kind} ${text.length <= 120 ? text : `${text.slice(0, 120)}…`}`
}

function lastOf(lines: readonly string[], most: number): readonly string[] {
  return lines.length <= most ? lines : [`… ${lines.length - most} lines before`, ...lines.slice(-most)]
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}
