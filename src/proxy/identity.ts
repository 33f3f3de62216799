// Who the client is, told to the backend (section "The backend connection" of the design).
// Promise: one client identity a connection: with XCLIENT it is told anew before a message of another client, every attribute each time, since
// they survive on a connection that is used again; with the PROXY protocol a connection is made for one client and never used for another.

import { isIP } from 'node:net'
import { buildProxyHeader, localProxyHeader, type ProxyAddress } from '../smtp/proxy-header.ts'
import { xclientArgument } from '../smtp/xclient.ts'
import type { BackendConnection } from './backend.ts'
import { sayHello } from './backend-connect.ts'
import { BackendError } from './destination.ts'

export type ClientAddressMode = 'auto' | 'xclient' | 'proxy-v1' | 'proxy-v2' | 'none'

export interface ClientIdentity {
  readonly address: string
  readonly port: number
  readonly helo: { readonly verb: 'HELO' | 'EHLO'; readonly name: string } | undefined
  /** Where the client has connected to. */
  readonly listener: () => ProxyAddress
}

/** The first octets of a new connection, for the PROXY modes; `undefined` for all others. Without a client it is a connection of our own. */
export function connectionPrelude(
  mode: ClientAddressMode,
  client: ClientIdentity | undefined,
  own: ProxyAddress,
): Buffer | undefined {
  if (mode !== 'proxy-v1' && mode !== 'proxy-v2') return undefined
  const version = mode === 'proxy-v1' ? 1 : 2
  if (client !== undefined) return buildProxyHeader(version, client, client.listener())
  // Version 1 cannot say "this is me": our own address stands in.
  return version === 1 ? buildProxyHeader(1, own, own) : localProxyHeader()
}

/** Whether connections of this mode may be used again for another client. */
export function mayPool(mode: ClientAddressMode): boolean {
  return mode !== 'proxy-v1' && mode !== 'proxy-v2'
}

/** Tells the backend by XCLIENT, where the mode and its announcement say so. Rejects with BackendError. */
export async function identify(
  connection: BackendConnection,
  mode: ClientAddressMode,
  client: ClientIdentity,
): Promise<void> {
  if (mode !== 'auto' && mode !== 'xclient') return
  const announced = connection.profile.xclient
  // An offer without ADDR cannot tell what matters.
  if (!announced.has('ADDR')) {
    // It took one client's name and takes no other: not for this message. A new connection is.
    if (connection.identity !== undefined) throw lost(connection, 'does not offer XCLIENT any more')
    if (mode === 'auto') return
    throw new BackendError(
      'incapable',
      connection.server,
      'does not offer XCLIENT (is our address in smtpd_authorized_xclient_hosts?)',
    )
  }
  const { address, port, helo } = client
  const proto = helo?.verb === 'HELO' ? 'SMTP' : 'ESMTP'
  const attributes = { addr: address, port, proto, helo: helo?.name } as const
  const argument = xclientArgument(attributes, announced)
  if (connection.identity === argument) return
  let answer = await connection.command('XCLIENT', argument)
  // A Postfix without IPv6 does not take an IPv6 address: better an unknown client than none.
  if (answer.code === 501 && isIP(address) === 6) {
    answer = await connection.command('XCLIENT', xclientArgument({ ...attributes, addr: undefined }, announced))
  }
  // Kept too long: it says nothing about this message.
  if (answer.code === 421) throw lost(connection, 'given up by the server')
  if (answer.code !== 220) {
    connection.destroy()
    throw new BackendError('incapable', connection.server, `XCLIENT answered with ${answer.code}`)
  }
  // XCLIENT starts the server's session anew: EHLO again, and in the client's name, since the backend judges by it.
  const proper = helo !== undefined && /^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/i.test(helo.name)
  await sayHello(connection, { name: proper ? helo.name : connection.ownName })
  connection.identity = argument
}

function lost(connection: BackendConnection, why: string): BackendError {
  connection.destroy()
  return new BackendError('lost', connection.server, why)
}
