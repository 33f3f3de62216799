// MAIL and RCPT.
// Promise: the backend's answer is the client's answer. Refusals of connect, HELO and MAIL wait until RCPT, so that the log shows who wrote
// to whom and exempt recipients stay reachable; a hangup does not wait. A condemned client never makes us talk to the backend.
import type { Decided } from '../filter/chain.ts'
import { actionFor } from '../filter/score.ts'
import type { Address } from '../smtp/address.ts'
import { parseMailParameters, parseRcptParameters } from '../smtp/extensions.ts'
import { closing, isPositive, type Reply, reply } from '../smtp/reply.ts'
import { BackendError, type Envelope, type EnvelopeRecipient, faultReply } from './destination.ts'
import { isExempt, relayRefusal } from './relay.ts'
import { backendReply, scoreReply, verdictReply } from './replies.ts'
import type { Session } from './session.ts'
import { Transaction } from './transaction.ts'
import type { VerbRule } from './verbs.ts'

const OK_MAIL = reply(250, [1, 0], 'Ok')

export const mailVerb: VerbRule<'MAIL'> = {
  check(session, command) {
    const { offer } = session
    if (session.helo === undefined || offer === undefined) return reply(503, [5, 1], 'Say EHLO first')
    if (session.tx !== undefined) return reply(503, [5, 1], 'A transaction is open')
    if (session.listener.kind === 'submission' && session.login === undefined) {
      return reply(530, [7, 0], 'Authentication required')
    }
    // No credentials are kept: the client has to log in on a new connection.
    if (session.login?.alive === false) return closing(421, [4, 2], 'Connection inside the mail system lost, closing')
    if (session.healthCheck) return reply(550, [7, 1], 'This connection is a health check')
    const parsed = parseMailParameters(command.parameters, offer)
    if (parsed.kind === 'error') return parsed.reply
    // RFC 1870 6.1
    if ((parsed.value.size ?? 0) > offer.size) return reply(552, [3, 4], 'Message too large')
    const envelope = { reversePath: command.path, parameters: parsed.value }
    return { ask: () => beginTransaction(session, envelope), proceed: () => passMail(session) }
  },
}

async function beginTransaction(session: Session, envelope: Envelope): Promise<Reply | undefined> {
  const { chain, deps } = session
  if (!(await deps.hasRoom(envelope.parameters.size ?? 0))) return reply(452, [3, 1], 'Out of storage, try again later')
  session.transactions++
  const tx = new Transaction(deps, chain, { id: `${session.id}.${session.transactions}`, session, envelope })
  session.tx = tx
  const decided = await judgeClient(session, tx)
  if (decided?.verdict.kind === 'hangup') return endByVerdict(session, tx, decided)
  tx.held = decided
  return decided === undefined ? undefined : OK_MAIL
}

// The order of the stages is the order of the filter table: the first verdict counts (P7). Who is trusted at connect is not judged by HELO,
// whose filters ran beside that.
async function judgeClient(session: Session, tx: Transaction): Promise<Decided | undefined> {
  const { chain } = session
  const connect = await session.connectResult
  tx.absorb(connect)
  if (connect.decided !== undefined) return connect.decided
  if (!tx.trusted) {
    const helo = await session.heloResult
    tx.absorb(helo)
    if (helo.decided !== undefined) return helo.decided
  }
  const mail = await chain.mail(tx, tx.facts, { log: tx.log, trusted: tx.trusted })
  tx.absorb(mail)
  return mail.decided
}

async function passMail(session: Session): Promise<Reply> {
  const { tx } = session
  if (tx === undefined) return reply(503, [5, 1], 'No transaction is open')
  const r = await openBackend(session, tx)
  if (!isPositive(r)) session.tx = undefined
  return r
}

/** Says MAIL to the backend; where it does not take it, the transaction is over. */
async function openBackend(session: Session, tx: Transaction): Promise<Reply> {
  const backend = session.deps.destination.open(tx.envelope, session.identity, session.login)
  tx.backend = backend
  try {
    const answer = await backend.mail()
    const r = backendReply(answer, 'MAIL')
    if (!isPositive(r)) tx.end({ outcome: 'backend-refused', reply: r, backend: { name: 'MAIL', reply: answer } })
    return r
  } catch (error) {
    const r = faultOf(session, error)
    tx.end({ outcome: 'backend-lost', reply: r, reason: String(error) })
    return r
  }
}

function endByVerdict(session: Session, tx: Transaction, decided: Decided): Reply {
  const r = verdictReply(decided, tx.id)
  tx.end({ outcome: 'deferred', reply: r, reason: `${decided.filter}: ${decided.verdict.reason}` })
  session.tx = undefined
  return r
}

/** The reply for a fault of the backend; anything else is a fault of ours and ends the session. */
function faultOf(session: Session, error: unknown): Reply {
  if (!(error instanceof BackendError)) throw error
  session.deps.log.warn(
    { session: session.id, backend: error.server, fault: error.fault, error: error.message },
    'backend failed',
  )
  return faultReply(error.fault)
}

export const rcptVerb: VerbRule<'RCPT'> = {
  check(session, command) {
    const { tx, deps, offer } = session
    if (tx === undefined || offer === undefined) return reply(503, [5, 1], 'Say MAIL first')
    if (tx.chunks !== undefined) return reply(503, [5, 1], 'The message has begun')
    const parsed = parseRcptParameters(command.parameters, offer)
    if (parsed.kind === 'error') return parsed.reply
    // RFC 6531 3.5
    const unicode = command.path.utf8 || /[^\x00-\x7f]/.test(parsed.value.orcpt ?? '')
    if (unicode && !tx.envelope.parameters.smtpUtf8) return reply(553, [6, 7], 'The address needs SMTPUTF8')
    const refusal = relayRefusal(
      deps.relay,
      command.path,
      session.login === undefined ? session.client.address : 'authenticated',
    )
    if (refusal !== undefined) return noted(tx, command.path, refusal)
    // RFC 5321 4.5.3.1.10: temporary, the client sends the rest in another transaction.
    if (tx.accepted.length >= deps.limits.recipients)
      return noted(tx, command.path, reply(452, [5, 3], 'Too many recipients'))
    const recipient = { address: command.path, parameters: parsed.value }
    return { ask: () => askAbout(session, tx, recipient), proceed: () => passRecipient(session, tx, recipient) }
  },
}

async function askAbout(session: Session, tx: Transaction, rcpt: EnvelopeRecipient): Promise<Reply | undefined> {
  const { deps, chain } = session
  const exempt = isExempt(deps.relay, rcpt.address)
  const refusal = standingRefusal(session, tx)
  if (refusal !== undefined) {
    if (!exempt) return noted(tx, rcpt.address, refusal)
    // From here on the transaction takes exempt recipients only; those it has already are not made so.
    if (tx.accepted.every((r) => isExempt(deps.relay, r.address))) tx.exemptOnly = true
    if (tx.backend === undefined) {
      const r = await openBackend(session, tx)
      if (!isPositive(r)) {
        session.tx = undefined
        session.conduct.mailRefused()
        return r
      }
    }
  }
  const result = await chain.rcpt(tx, tx.facts, { log: tx.log, trusted: tx.trusted, rcpt })
  tx.note(result)
  const { decided } = result
  if (decided?.verdict.kind === 'hangup') return endByVerdict(session, tx, decided)
  return decided === undefined || exempt ? undefined : noted(tx, rcpt.address, verdictReply(decided, tx.id))
}

async function passRecipient(session: Session, tx: Transaction, recipient: EnvelopeRecipient): Promise<Reply> {
  // A recipient before it in the same group may have ended the transaction.
  if (tx.backend === undefined || session.tx !== tx) return reply(503, [5, 1], 'Say MAIL first')
  let r: Reply
  try {
    r = backendReply(await tx.backend.rcpt(recipient), 'RCPT')
  } catch (error) {
    return noted(tx, recipient.address, faultOf(session, error))
  }
  if (isPositive(r)) tx.accepted.push(recipient)
  session.chain.recipientAnswered(tx, recipient, r)
  noted(tx, recipient.address, r)
  return harvestGuard(session, r)
}

// A client that is condemned, or whose envelope alone scores like spam, is refused before any content travels.
function standingRefusal(session: Session, tx: Transaction): Reply | undefined {
  if (tx.held !== undefined) return verdictReply(tx.held, tx.id)
  if (tx.trusted) return undefined
  return actionFor(tx.weighed().score, session.deps.actions) === 'reject' ? scoreReply('reject', tx.id) : undefined
}

// security.md 2.5: somebody who tries names is sent away. Answered as temporary, since the next name might have been a real one.
function harvestGuard(session: Session, r: Reply): Reply {
  if (r.code !== 550 && r.code !== 551 && r.code !== 553) return r
  return session.conduct.unknownRecipient() ? closing(421, [7, 1], 'Too many unknown recipients') : r
}

function noted(tx: Transaction, address: Address, r: Reply): Reply {
  tx.answered(address, r)
  return r
}
