// The admin server: /metrics for Prometheus, /healthz (the process runs) and /readyz (it can take mail).
// Promise: it changes nothing and shows no mail. It listens where the operator says, on loopback by default, and has no passwords: whoever
// wants it elsewhere puts a proxy in front.
import type { AddressInfo } from 'node:net'
import { type ServerType, serve } from '@hono/node-server'
import { Hono } from 'hono'
import type { Registry } from 'prom-client'

export interface AdminOptions {
  readonly host: string
  readonly port: number
  readonly registry: Registry
  /** What keeps the gateway from taking mail; empty: nothing. */
  readonly unready: () => readonly string[]
}

export interface AdminServer {
  readonly address: AddressInfo
  close(): Promise<void>
}

/** Starts the admin server. Rejects with the system's error where the address cannot be had. */
export async function startAdmin(options: AdminOptions): Promise<AdminServer> {
  const { host, port } = options
  const app = adminApp(options)
  const server = await new Promise<ServerType>((resolve, reject) => {
    const starting = serve({ fetch: app.fetch, hostname: host, port }, () => {
      starting.off('error', reject)
      resolve(starting)
    })
    starting.once('error', reject)
  })
  return {
    address: server.address() as AddressInfo,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        if ('closeAllConnections' in server) server.closeAllConnections()
      }),
  }
}

function adminApp({ registry, unready }: AdminOptions): Hono {
  const app = new Hono()
  app.get('/metrics', async (c) => c.body(await registry.metrics(), 200, { 'content-type': registry.contentType }))
  app.get('/healthz', (c) => c.text('ok\n'))
  app.get('/readyz', (c) => {
    const reasons = unready()
    return reasons.length === 0 ? c.text('ok\n') : c.text(`${reasons.join('\n')}\n`, 503)
  })
  return app
}
