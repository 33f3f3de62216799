// The servers behind the gateway: who they are, what they can do, and whether they would relay for us.
// Promise: no message is ever sent; a probe ends before DATA. Waiting is bounded by the limits of the configuration, and by half a minute for
// a command, since somebody sits at the terminal.
// Not taken: asking a server that one knows nothing about whether a real recipient exists. Only a name that cannot exist (RFC 2606) is used.
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { readBackendTls } from '../../certificates.ts'
import type { LoadedConfig } from '../../config/load.ts'
import { systemClock } from '../../net/clock.ts'
import { EventBus } from '../../observe/events.ts'
import type { BackendConnection, Server } from '../../proxy/backend.ts'
import { connectBackend } from '../../proxy/backend-connect.ts'
import { connectionPrelude } from '../../proxy/identity.ts'
import type { EhloProfile } from '../../smtp/extensions.ts'
import { isPositive, type Reply, replyText } from '../../smtp/reply.ts'
import { errorText, type Finding, finding } from './report.ts'

const COMMAND_TIMEOUT = 30_000
const GREETING_OCTETS = 512

/** Asks one server everything. Never rejects. */
export async function serverFindings(server: Server, loaded: LoadedConfig): Promise<Finding[]> {
  const { config } = loaded
  const name = `${server.host}:${server.port}`
  const what = `backend ${name}`
  const greeting = new FirstLine()
  let connection: BackendConnection
  try {
    connection = await dial(server, loaded, greeting)
  } catch (error) {
    const detail = `cannot be reached, or is no mail server: ${errorText(error)}`
    return [{ level: 'FAIL', what, detail, unreachable: true }]
  }
  const findings = [
    finding(
      'ok',
      what,
      `${greeting.text || 'no greeting'}; ${announced(connection.profile)}; ${connection.secure ? 'TLS' : 'no TLS'}`,
    ),
  ]
  const { message_size: ours } = config.limits
  if (connection.profile.size < ours) {
    findings.push(
      finding('note', what, `takes less than limits.message_size (${ours} octets): the smaller limit counts`),
    )
  }
  try {
    findings.push(await relayProbe(connection, name))
  } catch (error) {
    findings.push(finding('FAIL', `relay probe ${name}`, errorText(error)))
  }
  connection.close()
  return findings
}

async function dial(server: Server, loaded: LoadedConfig, greeting: FirstLine): Promise<BackendConnection> {
  const { limits, hostname, backend } = loaded.config
  const mode = backend?.client_address ?? 'none'
  return connectBackend({
    tls: await readBackendTls(loaded),
    server,
    hostname,
    connectTimeout: limits.backend_connect,
    commandTimeout: Math.min(limits.backend_command, COMMAND_TIMEOUT),
    clock: systemClock,
    events: new EventBus(() => {}),
    // A server that waits for a PROXY header greets nobody without one.
    prelude: (own) => connectionPrelude(mode, undefined, own),
    dial: ({ host, port }) => greeting.watch(connect({ host, port, noDelay: true })),
  })
}

/** The first line that comes over a stream: the connection reads the greeting and does not keep it. */
class FirstLine {
  #text = ''

  get text(): string {
    return this.#text.split('\n')[0]?.trim() ?? ''
  }

  watch(stream: Duplex): Duplex {
    const listen = (chunk: Buffer) => {
      this.#text += chunk.toString('latin1').slice(0, GREETING_OCTETS - this.#text.length)
      if (this.#text.includes('\n') || this.#text.length >= GREETING_OCTETS) stream.off('data', listen)
    }
    return stream.on('data', listen)
  }
}

function announced(profile: EhloProfile): string {
  const size = Number.isFinite(profile.size) ? `SIZE ${profile.size}` : 'SIZE without a limit'
  const rest = [
    ['PIPELINING', profile.pipelining],
    ['8BITMIME', profile.eightBitMime],
    ['SMTPUTF8', profile.smtpUtf8],
    ['DSN', profile.dsn],
  ].map(([keyword, there]) => (there ? keyword : `no ${keyword}`))
  return [size, ...rest].join(', ')
}

/**
 * Postern's address is often one that the backend trusts, and then the backend's own relay control is off: whatever slipped past ours would
 * go out to the world. So a recipient at a foreign domain must be refused.
 */
async function relayProbe(connection: BackendConnection, name: string): Promise<Finding> {
  const what = `relay probe ${name}`
  // RFC 5321 4.5.5: bounces come from the null sender, so every server takes it.
  const mail = await connection.command('MAIL', ' FROM:<>')
  if (!isPositive(mail)) {
    const detail = `not done, the backend refuses MAIL FROM:<> (${oneLine(mail)}); it would refuse every bounce too`
    return finding('WARN', what, detail)
  }
  const recipient = `postern-${randomBytes(6).toString('hex')}@postern-probe.invalid`
  const rcpt = await connection.command('RCPT', ` TO:<${recipient}>`)
  await connection.command('RSET')
  if (isPositive(rcpt)) {
    const detail =
      `WARNING: the backend relays for this proxy: it took RCPT TO:<${recipient}> (${oneLine(rcpt)}). ` +
      "Take Postern's address out of the networks that the backend trusts (Postfix: mynetworks)"
    return { level: 'WARN', what, detail, negative: true }
  }
  if (rcpt.code < 500) return finding('note', what, `a foreign recipient is deferred, not refused (${oneLine(rcpt)})`)
  return finding('ok', what, `a foreign recipient is refused (${oneLine(rcpt)})`)
}

function oneLine(reply: Reply): string {
  return replyText(reply).trimEnd().replaceAll('\r\n', ' / ')
}
