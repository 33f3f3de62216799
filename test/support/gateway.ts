// A real gateway process for integration tests and benchmarks: the process of the conformance suite with a configuration of the caller's.
// Promise: everything it writes lies in the folder given; it listens on loopback only, on a port that was free.
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { stringify } from 'yaml'
import { HarnessEvents } from '../conformance/backend-record.ts'
import { freePort, Gateway, GatewayStartError } from '../conformance/gateway.ts'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
export const HOSTNAME = 'mx.example.com'
/** The one domain that the gateways of the tests take mail for. */
export const DOMAIN = 'example.com'

export interface GatewaySetup {
  /** The compiled code is kept beside it, for the next gateway of the same test. */
  readonly folder: string
  /** Laid over the defaults, key by key. */
  readonly config?: Readonly<Record<string, unknown>>
  /** Laid over the settings of its one listener, key by key. */
  readonly listener?: Readonly<Record<string, unknown>>
  /** A port of loopback; without one the mail goes to a Maildir in the folder. */
  readonly backendPort?: number
  readonly nodeOptions?: readonly string[]
  /** The module to run instead of the working copy's. */
  readonly entry?: string
  /** The log is not to be used for anything: level error. */
  readonly silent?: boolean
}

/** Starts it and waits until it takes connections. */
export async function startGateway(setup: GatewaySetup): Promise<Gateway> {
  await mkdir(setup.folder, { recursive: true })
  for (let attempt = 1; ; attempt++) {
    const port = await freePort()
    const config = join(setup.folder, 'postern.yaml')
    await writeFile(config, stringify(configuration(setup, port)))
    try {
      return await Gateway.start({
        entry: setup.entry ?? MAIN,
        config,
        folder: setup.folder,
        port,
        nodeOptions: setup.nodeOptions ?? [],
        compileCache: join(dirname(setup.folder), 'compile-cache'),
        events: new HarnessEvents(),
        silent: setup.silent ?? false,
      })
    } catch (error) {
      // Somebody was quicker to take the port.
      if (!(error instanceof GatewayStartError && error.portTaken && attempt < 3)) throw error
    }
  }
}

function configuration(setup: GatewaySetup, port: number): Record<string, unknown> {
  const { folder, config, listener, backendPort, silent } = setup
  return {
    hostname: HOSTNAME,
    listeners: [{ name: 'mx', address: `127.0.0.1:${port}`, ...listener }],
    domains: [DOMAIN],
    ...(backendPort === undefined
      ? { maildir: { path: maildirOf(folder) } }
      : { backend: { servers: [`127.0.0.1:${backendPort}`] } }),
    data_dir: join(folder, 'data'),
    admin: { address: 'off' },
    log: { level: silent ? 'error' : 'info', format: 'json' },
    ...config,
  }
}

export function spoolOf(folder: string): string {
  return join(folder, 'data', 'spool')
}

export function maildirOf(folder: string): string {
  return join(folder, 'mail')
}

/** The messages in the Maildir of a gateway's folder, in no certain order. */
export async function readMaildir(folder: string): Promise<Buffer[]> {
  const fresh = join(maildirOf(folder), 'new')
  return Promise.all((await readdir(fresh)).map((name) => readFile(join(fresh, name))))
}
