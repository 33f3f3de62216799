// The verb table: for each verb check (legal now? syntax?) -> ask (the filters) -> proceed, each of which may answer (OpenSMTPD's order).
// Promise: a verb that is not in this table does nothing and reaches nobody. Verbs of the envelope and the message have files of their own.

import type { Command, Verb } from '../smtp/command.ts'
import { NO_OFFER, offerLines } from '../smtp/extensions.ts'
import { closing, type Reply, reply } from '../smtp/reply.ts'
import { authVerb } from './auth.ts'
import { bdatVerb } from './bdat.ts'
import { dataVerb } from './data.ts'
import { mailVerb, rcptVerb } from './envelope.ts'
import { NOT_IMPLEMENTED, OUT_OF_STEP } from './replies.ts'
import type { Session } from './session.ts'
import { starttlsVerb } from './starttls.ts'
import { identityKeywords, xclientVerb, xforwardVerb } from './xclient.ts'

/** A command of one verb. */
export type CommandOf<V extends Verb> = Command & { readonly verb: V }

export interface VerbRule<V extends Verb = Verb> {
  /** Legal now? Syntax? Answers with the refusal, or with what is to be done. */
  check(session: Session, command: CommandOf<V>): Reply | Steps
}

export interface Steps {
  /** Asks the filters; a reply ends the matter. */
  ask?(): Promise<Reply | undefined>
  /** `undefined` (or a promise of it): the client is gone, there is nobody to answer. */
  proceed(): Reply | Promise<Reply | undefined>
  /** What follows when the reply has been sent; returns how the session ended, if it did. */
  after?(): Promise<string | undefined>
}

const helloVerb: VerbRule<'HELO' | 'EHLO'> = {
  // RFC 2920 3.1: EHLO ends a group. Text behind it was sent by a client that does not read our answers.
  check(session, command) {
    if (session.lines.buffered > 0 || session.wire.hasInput) return OUT_OF_STEP
    return { proceed: () => hello(session, command) }
  },
}

function hello(session: Session, command: CommandOf<'HELO' | 'EHLO'>): Reply {
  const { deps } = session
  // RFC 5321 4.1.4: EHLO ends a transaction like RSET.
  endTransaction(session)
  session.helo = { verb: command.verb, name: command.name }
  session.peerHelo = session.helo
  session.startHelo()
  const offer = deps.destination.offer() ?? NO_OFFER
  const size = Math.min(offer.size, deps.limits.messageSize)
  session.offer = { ...offer, size, auth: mayLogIn(session) ? offer.auth : [] }
  const greeting = `${deps.hostname} greets ${command.name.replace(/[^a-zA-Z0-9.:[\]_-]/g, '?')}`
  return {
    code: 250,
    lines:
      command.verb === 'EHLO' ? [greeting, ...offerLines(session.offer), ...ownKeywords(session)] : [deps.hostname],
  }
}

// RFC 8314 3.3: no login in clear, and none where mail comes in from strangers.
function mayLogIn({ listener, secure, login }: Session): boolean {
  return listener.kind === 'submission' && secure !== undefined && login === undefined
}

// What we offer whatever the backend can.
function ownKeywords(session: Session): string[] {
  const { tls, chunking } = session.listener
  const starttls = tls !== undefined && session.secure === undefined
  return [...(starttls ? ['STARTTLS'] : []), ...(chunking ? ['CHUNKING'] : []), ...identityKeywords(session)]
}

const rsetVerb: VerbRule<'RSET'> = {
  check: (session) => ({
    proceed() {
      endTransaction(session)
      return reply(250, [0, 0], 'Ok')
    },
  }),
}

const quitVerb: VerbRule<'QUIT'> = {
  check: (session) => ({
    proceed() {
      endTransaction(session)
      return closing(221, [0, 0], 'Bye')
    },
  }),
}

function endTransaction(session: Session): void {
  session.tx?.end({ outcome: 'reset', reply: undefined })
  session.tx = undefined
}

/** A verb that only says something. */
function saying(answer: Reply): VerbRule {
  return { check: () => answer }
}

const table: { readonly [V in Verb]: VerbRule<V> | VerbRule } = {
  HELO: helloVerb,
  EHLO: helloVerb,
  MAIL: mailVerb,
  RCPT: rcptVerb,
  DATA: dataVerb,
  RSET: rsetVerb,
  QUIT: quitVerb,
  NOOP: saying(reply(250, [0, 0], 'Ok')),
  HELP: saying(reply(214, [0, 0], 'See RFC 5321')),
  // RFC 5321 3.5.3: says nothing about who exists.
  VRFY: saying(reply(252, [5, 0], 'Send mail to find out')),
  EXPN: saying(NOT_IMPLEMENTED),
  STARTTLS: starttlsVerb,
  AUTH: authVerb,
  BDAT: bdatVerb,
  XCLIENT: xclientVerb,
  XFORWARD: xforwardVerb,
}

export const VERBS: ReadonlyMap<string, VerbRule> = new Map(Object.entries(table) as [string, VerbRule][])
