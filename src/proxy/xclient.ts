// XCLIENT and XFORWARD from trusted clients: another server stands in front of us and says who the client really is.
// Promise: only from the listed addresses of the connection itself (never from an address that was told before), not in a transaction; the
// connect stage starts anew with the new identity, and nothing that was found about the old one stays.
import { type Reply, reply } from '../smtp/reply.ts'
import { type ClientAttributes, parseAttributes, XCLIENT_ATTRIBUTES, XFORWARD_ATTRIBUTES } from '../smtp/xclient.ts'
import { OUT_OF_STEP } from './replies.ts'
import type { ClientAddress, Session } from './session.ts'
import type { Steps, VerbRule } from './verbs.ts'

const NOT_AUTHORIZED = reply(550, [7, 0], 'Not authorized')

/** The EHLO keywords for a trusted client. */
export function identityKeywords(session: Session): string[] {
  if (!isTrusted(session)) return []
  return [`XCLIENT ${XCLIENT_ATTRIBUTES.join(' ')}`, `XFORWARD ${XFORWARD_ATTRIBUTES.join(' ')}`]
}

function isTrusted(session: Session): boolean {
  return session.listener.xclientFrom.has(session.peer.address)
}

// Postfix's XCLIENT_README: the server goes back to the state behind the greeting.
export const xclientVerb: VerbRule<'XCLIENT'> = {
  check: (session, command) =>
    checked(session, parseAttributes(command.argument, XCLIENT_ATTRIBUTES), (attributes) => {
      if (session.lines.buffered > 0 || session.wire.hasInput) return OUT_OF_STEP
      session.identify(clientOf(session, attributes))
      session.helo = undefined
      session.offer = undefined
      return { code: 220, lines: [`${session.deps.hostname} ESMTP`] }
    }),
}

// XFORWARD_README: for logging only, says Postfix; to us it is the client, since Postfix's smtpd_proxy_filter can say it in no other way.
export const xforwardVerb: VerbRule<'XFORWARD'> = {
  check: (session, command) =>
    checked(session, parseAttributes(command.argument, XFORWARD_ATTRIBUTES), (attributes) => {
      session.identify(clientOf(session, attributes))
      const { helo, proto } = attributes
      if (helo !== undefined) session.helo = { verb: proto === 'SMTP' ? 'HELO' : 'EHLO', name: helo }
      else if ('helo' in attributes) session.helo = session.peerHelo
      // What is known of HELO was found with the old client's address.
      if (session.helo !== undefined) session.startHelo()
      return reply(250, [0, 0], 'Ok')
    }),
}

function checked(
  session: Session,
  parsed: ReturnType<typeof parseAttributes>,
  accept: (attributes: ClientAttributes) => Reply,
): Reply | Steps {
  if (!isTrusted(session)) return NOT_AUTHORIZED
  if (session.tx !== undefined) return reply(503, [5, 1], 'A transaction is open')
  if (parsed.kind === 'error') return reply(501, [5, 4], `Bad attributes: ${parsed.why}`)
  return { proceed: () => accept(parsed.attributes) }
}

// An attribute that is not mentioned stays as it is. Where the address is said to be unavailable (a mail of the server in front itself) it is
// the peer's, never that of the client before.
function clientOf(session: Session, attributes: ClientAttributes): ClientAddress {
  const { addr, port } = attributes
  if (!('addr' in attributes)) return { address: session.client.address, port: port ?? session.client.port }
  return addr === undefined ? session.peer : { address: addr, port: port ?? 0 }
}
