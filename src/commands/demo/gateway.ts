// The gateway of the demonstration: the real one, with a configuration that needs nothing and disturbs nobody.
// Promise: it listens on loopback only, writes into one fresh folder only, and reads neither the configuration nor the environment of the
// site. Not taken: a shortened gateway for showing. What is seen here is what `postern run` does.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { App } from '../../app.ts'
import { loadConfig } from '../../config/load.ts'
import type { Address } from './client.ts'
import { MESSAGE_SIZE } from './samples.ts'

export interface DemoGateway {
  readonly folder: string
  readonly maildir: string
  readonly server: Address
  /** Where /metrics is. */
  readonly admin: Address
  stop(): Promise<void>
}

export interface GatewayOptions {
  /** Ports to try in this order; 0 lets the system choose. */
  readonly ports: readonly number[]
  /** Remove the folder at the end. */
  readonly temporary: boolean
}

const HOST = '127.0.0.1'

/** Starts it. Rejects with the system's error where no address or no folder can be had. */
export async function startGateway({ ports, temporary }: GatewayOptions): Promise<DemoGateway> {
  const folder = await mkdtemp(join(tmpdir(), 'postern-demo-'))
  const clean = async () => {
    if (temporary) await rm(folder, { recursive: true, force: true })
  }
  try {
    const { app, port } = await startApp(folder, ports)
    const stop = async () => {
      await app.stop()
      await clean()
    }
    const admin = { host: HOST, port: app.adminAddress?.port ?? 0 }
    return { folder, maildir: join(folder, 'mail'), server: { host: HOST, port }, admin, stop }
  } catch (error) {
    await clean()
    throw error
  }
}

async function startApp(folder: string, ports: readonly number[]): Promise<{ app: App; port: number }> {
  const [preferred = 0, ...others] = ports
  const app = await App.create({ loaded: loadConfig({ text: configuration(folder, preferred), env: {} }) })
  try {
    const [listener] = await app.start()
    return { app, port: listener?.address.port ?? preferred }
  } catch (error) {
    // Whatever keeps a preferred port from us: the next one will do.
    if (others.length === 0) throw error
    return startApp(folder, others)
  }
}

// JSON is YAML: nothing in a path needs quoting rules of our own.
function configuration(folder: string, port: number): string {
  return JSON.stringify({
    hostname: 'demo.example',
    listeners: [{ name: 'mx', address: `${HOST}:${port}` }],
    domains: ['example.com'],
    data_dir: folder,
    maildir: { path: join(folder, 'mail') },
    limits: { message_size: MESSAGE_SIZE },
    admin: { address: `${HOST}:0` },
    log: { level: 'warn' },
  })
}
