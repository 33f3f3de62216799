// The three ways to one and the same sink that are compared: through the gateway, through Postfix's own empty proxy, and directly.
import { chmod } from 'node:fs/promises'
import { join } from 'node:path'
import type { Gateway } from '../conformance/gateway.ts'
import { startGateway } from '../support/gateway.ts'
import { SmtpSink } from '../support/smtp-sink.ts'
import { startPostfixProxy } from './postfix.ts'

export type Way = 'gateway' | 'postfix' | 'direct'
export const WAYS: readonly Way[] = ['gateway', 'postfix', 'direct']

export interface Ways {
  readonly gateway: Gateway
  readonly ports: Readonly<Record<Way, number>>
  stop(): Promise<void>
}

export interface WaysOptions {
  readonly folder: string
  /** Options for the gateway's node. */
  readonly nodeOptions: readonly string[]
}

const CONNECTIONS = 2000

export async function startWays({ folder, nodeOptions }: WaysOptions): Promise<Ways> {
  // Postfix's services have users of their own.
  await chmod(folder, 0o755)
  const stops: (() => Promise<unknown>)[] = []
  const stop = async (): Promise<void> => {
    for (const end of stops.toReversed()) await end()
  }
  try {
    const sink = await SmtpSink.start({ connections: CONNECTIONS })
    stops.push(() => sink.stop())
    const gateway = await benchGateway(join(folder, 'gateway'), sink.port, nodeOptions)
    stops.push(() => gateway.end('TERM'))
    const postfix = await startPostfixProxy(join(folder, 'postfix'), sink.port)
    stops.push(() => postfix.stop())
    return { gateway, ports: { gateway: gateway.port, postfix: postfix.port, direct: sink.port }, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** A fresh gateway without filters, whose caps do not stand in the way of the load. */
export function benchGateway(folder: string, backendPort: number, nodeOptions: readonly string[]): Promise<Gateway> {
  const limits = { connections: CONNECTIONS, connections_per_address: CONNECTIONS }
  return startGateway({ folder, backendPort, nodeOptions, silent: true, config: { limits } })
}
