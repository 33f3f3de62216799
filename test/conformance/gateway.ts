// One gateway process of one case: started on a free port, watched, stopped by its pid. Its standard error is the log of the case.
// A process that a case itself killed (`signal`) is started again on the same port, as a supervisor would do; one that ends by itself stays
// down and fails the case.
// Not taken: one gateway for all cases. A case could then pass or fail by what another one left behind.
import { type ChildProcess, spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { HarnessEvents } from './backend-record.ts'

export interface GatewayOptions {
  /** The module to run: `node ENTRY run -c CONFIG`. */
  readonly entry: string
  readonly config: string
  readonly folder: string
  readonly port: number
  readonly nodeOptions: readonly string[]
  readonly compileCache: string
  readonly events: HarnessEvents
  /** Its log is set not to tell when it listens: find out by connecting. */
  readonly silent?: boolean
}

/** How a process ended: its status, or the signal that ended it. */
export type GatewayEnd = number | NodeJS.Signals | null

export class GatewayStartError extends Error {
  readonly portTaken: boolean

  constructor(message: string, portTaken: boolean) {
    super(message)
    this.portTaken = portTaken
  }
}

const START_LIMIT = 30_000
const STOP_GRACE = 1500

const running = new Set<ChildProcess>()
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

export class Gateway {
  readonly #options: GatewayOptions
  #child: ChildProcess
  #log = ''
  #ready: Promise<void>
  #supervised = false

  private constructor(options: GatewayOptions) {
    this.#options = options
    this.#child = this.#spawn()
    this.#ready = this.#untilReady(this.#child, 0)
  }

  /** Starts it and waits until it takes connections. */
  static async start(options: GatewayOptions): Promise<Gateway> {
    const gateway = new Gateway(options)
    try {
      await gateway.#ready
    } catch (error) {
      await gateway.stop()
      throw error
    }
    return gateway
  }

  get port(): number {
    return this.#options.port
  }

  get alive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null
  }

  get log(): string {
    return this.#log
  }

  /** Resident memory in MiB; undefined where the system does not tell. */
  async memory(): Promise<number | undefined> {
    try {
      const status = await readFile(`/proc/${this.#child.pid}/status`, 'utf8')
      const kib = /^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]
      return kib === undefined ? undefined : Number(kib) / 1024
    } catch {
      return undefined
    }
  }

  /** A signal on behalf of the case: whatever ends by it comes back. */
  signal(name: 'TERM' | 'KILL'): void {
    const child = this.#child
    const before = this.#log.length
    this.#supervised = true
    child.once('exit', () => {
      if (!this.#supervised) return
      this.#child = this.#spawn()
      this.#ready = this.#untilReady(this.#child, before)
      this.#ready.catch(() => {})
    })
    child.kill(`SIG${name}`)
  }

  /** A signal for good: resolves to how the process ended, however long that takes. */
  end(name: 'TERM' | 'KILL'): Promise<GatewayEnd> {
    this.#supervised = false
    const child = this.#child
    if (!this.alive) return Promise.resolve(child.exitCode ?? child.signalCode)
    const gone = new Promise<GatewayEnd>((resolve) => child.once('close', (code, signal) => resolve(code ?? signal)))
    child.kill(`SIG${name}`)
    return gone
  }

  /** Whether the current process, possibly a new one, takes connections. */
  async ready(): Promise<boolean> {
    try {
      await this.#ready
      return this.alive
    } catch {
      return false
    }
  }

  async stop(): Promise<void> {
    this.#supervised = false
    const child = this.#child
    if (!this.alive) return
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
    child.kill('SIGTERM')
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_GRACE)
    await gone
    clearTimeout(timer)
  }

  #spawn(): ChildProcess {
    const { entry, config, folder, nodeOptions, compileCache, events } = this.#options
    const child = spawn(process.execPath, [...nodeOptions, entry, 'run', '-c', config], {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: process.env.PATH, HOME: folder, NODE_COMPILE_CACHE: compileCache },
    })
    running.add(child)
    const collect = (chunk: Buffer): void => {
      this.#log += chunk.toString('utf8')
    }
    child.stdout?.on('data', collect)
    child.stderr?.on('data', collect)
    child.once('exit', () => {
      running.delete(child)
      events.emit('proxy_exit')
    })
    return child
  }

  async #untilReady(child: ChildProcess, logStart: number): Promise<void> {
    const deadline = Date.now() + START_LIMIT
    // The log is asked first: a connection would already be a session that the gateway counts.
    const connectFrom = Date.now() + (this.#options.silent ? 0 : 5000)
    while (Date.now() < deadline) {
      if (child.exitCode !== null || child.signalCode !== null) {
        const tail = this.#log.slice(logStart).trim().split('\n').slice(-5).join('\n')
        throw new GatewayStartError(
          `the gateway did not start: ${tail}`,
          /EADDRINUSE|already in use|listens there already/.test(tail),
        )
      }
      if (/\b(?:listening|ready)\b/i.test(this.#log.slice(logStart))) return
      if (Date.now() > connectFrom && (await takesConnections(this.#options.port))) return
      await sleep(10)
    }
    throw new GatewayStartError(`the gateway was not ready within ${START_LIMIT} ms`, false)
  }
}

function takesConnections(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => resolve(true))
    socket.once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}

/** A port that is free now, outside the range from which the system takes ports for outgoing connections. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 15_000 + Math.floor(Math.random() * 17_000)
    const free = await new Promise<boolean>((resolve) => {
      const probe = createServer()
      probe.once('error', () => resolve(false))
      probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)))
    })
    if (free) return port
  }
}
