// The first words with a backend: greeting, EHLO, STARTTLS, EHLO again.
// Promise: whatever goes wrong here is one BackendError in bounded time (`unreachable`, or `tls` where TLS is required and cannot be had), and
// an event; no half-made connection is left behind.
import { parseEhlo } from '../smtp/extensions.ts'
import type { Reply } from '../smtp/reply.ts'
import { BackendConnection, type BackendOptions } from './backend.ts'
import { type BackendTls, handshake } from './backend-tls.ts'
import { BackendError } from './destination.ts'

export interface ConnectOptions extends BackendOptions {
  readonly tls: BackendTls
}

/** Connects and says everything that comes before MAIL. Rejects with BackendError. */
export async function connectBackend(options: ConnectOptions): Promise<BackendConnection> {
  const { clock, events, hostname, connectTimeout } = options
  const started = clock.now()
  const connection = new BackendConnection(options)
  const left = () => Math.max(1, connectTimeout - (clock.now() - started))
  try {
    const greeting = await connection.greeting(left())
    if (greeting.code !== 220) throw refused(connection, 'greeting', greeting)
    await sayHello(connection, { name: hostname, timeout: left() })
    await startTls(connection, { options, left })
    // A good-bye in the same segment as the answer to EHLO.
    if (!connection.alive) throw new Error('closed by the server')
  } catch (error) {
    connection.destroy()
    const what = error instanceof Error ? error.message : String(error)
    events.emit('backend-failed', { backend: connection.server, what })
    const fault = error instanceof BackendError && error.fault === 'tls' ? 'tls' : 'unreachable'
    throw new BackendError(fault, connection.server, what, error)
  }
  events.emit('backend-connected', { backend: connection.server, milliseconds: clock.now() - started })
  return connection
}

// RFC 5321 3.2: a server that does not know EHLO is asked with HELO. Every other refusal is a fault of its set-up: temporary to the client.
export async function sayHello(
  connection: BackendConnection,
  { name, timeout }: { readonly name: string; readonly timeout?: number },
): Promise<void> {
  const hello = await connection.command('EHLO', name, timeout)
  if (hello.code === 250) {
    connection.profile = parseEhlo(hello.lines)
    return
  }
  if (hello.code !== 500 && hello.code !== 502) throw refused(connection, 'EHLO', hello)
  const old = await connection.command('HELO', name, timeout)
  if (old.code !== 250) throw refused(connection, 'HELO', old)
}

async function startTls(
  connection: BackendConnection,
  { options, left }: { readonly options: ConnectOptions; readonly left: () => number },
): Promise<void> {
  const { tls, clock, hostname, server } = options
  if (tls.mode === 'off') return
  const fail = (what: string) => {
    if (tls.mode === 'required') throw new BackendError('tls', connection.server, what)
  }
  if (!connection.profile.startTls) return fail('does not offer STARTTLS, and TLS is required')
  const ready = await connection.command('STARTTLS', '', left())
  if (ready.code !== 220) return fail(`STARTTLS answered with ${ready.code}`)
  try {
    await connection.upgrade((plain) => handshake(plain, { host: server.host, tls, timeout: left(), clock }))
  } catch (error) {
    throw new BackendError('tls', connection.server, error instanceof Error ? error.message : String(error), error)
  }
  // RFC 3207 4.2: what the server said in clear is forgotten.
  await sayHello(connection, { name: hostname, timeout: left() })
}

function refused(connection: BackendConnection, what: string, reply: Reply): BackendError {
  const text = reply.lines.join(' ').slice(0, 200)
  return new BackendError('unreachable', connection.server, `${what} answered with ${reply.code} ${text}`)
}
