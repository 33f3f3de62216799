// STARTTLS (RFC 3207).
// Promise: what was sent behind STARTTLS in clear is never taken for something said under TLS (CVE-2011-0411): it ends the session.
import { closing, reply } from '../smtp/reply.ts'
import { NOT_IMPLEMENTED, OUT_OF_STEP } from './replies.ts'
import type { Session } from './session.ts'
import { factsOf, type TlsTerminator } from './tls.ts'
import type { VerbRule } from './verbs.ts'

// Until TLS is up a listener that requires it takes only these (RFC 3207 section 4).
export const BEFORE_TLS: ReadonlySet<string> = new Set(['EHLO', 'HELO', 'NOOP', 'RSET', 'QUIT', 'STARTTLS'])
export const TLS_FIRST = reply(530, [7, 0], 'Must issue a STARTTLS command first')
/** Behind BDAT comes a payload that nobody would read as one: close (security.md 1.4). */
export const TLS_FIRST_CLOSING = closing(530, [7, 0], 'Must issue a STARTTLS command first')

export const starttlsVerb: VerbRule<'STARTTLS'> = {
  check(session) {
    const { tls } = session.listener
    if (tls === undefined) return NOT_IMPLEMENTED
    if (session.secure !== undefined) return reply(503, [5, 1], 'TLS is up already')
    if (session.tx !== undefined) return reply(503, [5, 1], 'A transaction is open')
    // CVE-2011-0411: what was sent behind STARTTLS was not sent under TLS, and is not taken for it.
    if (session.lines.buffered > 0 || session.wire.hasInput) return OUT_OF_STEP
    return {
      proceed: () => reply(220, [0, 0], 'Ready to start TLS'),
      after: () => startTls(session, tls.terminator),
    }
  },
}

/** Returns how the session ended, where the handshake fails. */
async function startTls(session: Session, terminator: TlsTerminator): Promise<string | undefined> {
  const { deps, wire, listener, id } = session
  const { clock, limits, events, log } = deps
  try {
    const secure = await terminator.accept(wire.release(), { clock, timeout: limits.idle })
    session.continueOn(secure, factsOf(secure))
    events.emit('tls-handshake', { listener: listener.name, result: 'ok', protocol: factsOf(secure).protocol })
    return undefined
  } catch (error) {
    events.emit('tls-handshake', { listener: listener.name, result: 'failed', protocol: 'none' })
    log.info({ session: id, error: String(error) }, 'TLS handshake failed')
    return 'tls-failed'
  }
}
