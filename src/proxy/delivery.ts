// End of data: the filters' judgement, the score, the action, and the way to the backend.
// Promise: P1 (250 only after the backend's 250), P2 (the dot only with the verdict "deliver" and the client there), P6 and P9. There is no
// way through this file that answers 2xx without a backend's 2xx.
import type { Decided } from '../filter/chain.ts'
import type { MessageView } from '../filter/context.ts'
import { actionFor, type ScoreAction, type Weighed } from '../filter/score.ts'
import { firstLine, type HeaderBlock } from '../message/headers.ts'
import { type Message, SpoolError } from '../message/message.ts'
import { isForged, receivedHeader, spamHeaders } from '../message/trace-headers.ts'
import type { Outcome } from '../observe/events.ts'
import { type Reply, reply } from '../smtp/reply.ts'
import { type Delivered, faultReply } from './destination.ts'
import { backendReply, SENT_AHEAD, scoreReply, verdictReply } from './replies.ts'
import type { Session } from './session.ts'
import type { Transaction, TransactionEnd } from './transaction.ts'

/** Returns the answer to the end of data, or undefined where the client is gone. */
export async function judgeAndDeliver(session: Session, tx: Transaction, message: Message): Promise<Reply | undefined> {
  const decided = await askAboutMessage(session, tx, message)
  if (decided !== undefined) {
    const r = verdictReply(decided, tx.id)
    const outcome: Outcome = decided.verdict.kind === 'reject' ? 'refused' : 'deferred'
    const action = decided.verdict.kind === 'reject' ? 'reject' : 'defer'
    tx.end({ outcome, reply: r, action, reason: `${decided.filter}: ${decided.verdict.reason}` })
    return r
  }
  const weighed = tx.weighed()
  const action = actionOf(session, tx, weighed.score)
  if (action === 'reject' || action === 'defer') {
    const r = scoreReply(action, tx.id)
    const reason = `score ${weighed.score} reached the threshold of ${action}`
    tx.end({ outcome: action === 'reject' ? 'refused' : 'deferred', reply: r, action, reason })
    return r
  }
  return deliver(session, tx, { message, weighed, action })
}

async function askAboutMessage(session: Session, tx: Transaction, message: Message): Promise<Decided | undefined> {
  const { chain, deps } = session
  const view: MessageView = {
    size: message.size,
    headers: message.header().fields,
    bytes: () => message.bytes(),
    chunks: () => message.chunks(),
  }
  const deadline = deps.clock.now() + deps.limits.endOfData
  const context = { log: tx.log, trusted: tx.trusted, message: view, deadline }
  const result = await chain.message(tx, tx.facts, context)
  tx.absorb(result)
  const { decided } = result
  return tx.exemptOnly && decided?.verdict.kind === 'reject' ? undefined : decided
}

// Content written to postmaster by a condemned client, or by somebody trusted, may be tagged, never refused for its score.
function actionOf(session: Session, tx: Transaction, score: number): ScoreAction {
  const action = actionFor(score, session.deps.actions)
  return (tx.exemptOnly || tx.trusted) && action !== 'deliver' ? 'tag' : action
}

interface Approved {
  readonly message: Message
  readonly weighed: Weighed
  readonly action: 'deliver' | 'tag'
}

async function deliver(session: Session, tx: Transaction, approved: Approved): Promise<Reply | undefined> {
  const { backend } = tx
  const { message, action } = approved
  // Whoever has closed its side counts as gone: it could not be told what became of the message.
  const wanted = () => !session.wire.gone && !session.wire.overrun
  if (backend === undefined || !wanted()) return conclude(session, tx, { delivered: { kind: 'withdrawn' }, action })
  const own = ownHeaders(session, tx, approved)
  let delivered: Delivered
  try {
    delivered = await backend.deliver({
      id: tx.id,
      content: () => content(own, message, session.deps.hostname),
      wanted,
    })
  } catch (error) {
    if (!(error instanceof SpoolError)) throw error
    const r = reply(451, [3, 0], 'Local problem, try again later')
    tx.end({ outcome: 'deferred', reply: r, action, reason: `spool: ${error.message}` })
    return r
  }
  return conclude(session, tx, { delivered, action })
}

function ownHeaders(session: Session, tx: Transaction, { weighed, action }: Approved): Buffer {
  const { deps, helo, client } = session
  const received = receivedHeader({
    hostname: deps.hostname,
    id: tx.id,
    client: client.address,
    helo: helo?.name ?? '',
    protocol: protocolName(session, tx),
    date: deps.clock.wall(),
  })
  const status = {
    tagged: action === 'tag',
    score: weighed.score,
    required: deps.actions.tag,
    tests: weighed.findings,
  }
  const extra = tx.headers.map((h) => `${h.name}: ${h.value}\r\n`).join('')
  return Buffer.from(received + spamHeaders(status, tx.id) + extra, 'latin1')
}

// RFC 3848, RFC 6531 4.3
function protocolName({ helo, secure, login }: Session, tx: Transaction): string {
  if (helo?.verb !== 'EHLO') return 'SMTP'
  const base = tx.envelope.parameters.smtpUtf8 ? 'UTF8SMTP' : 'ESMTP'
  return `${base}${secure === undefined ? '' : 'S'}${login === undefined ? '' : 'A'}`
}

// Our fields, then the message as it came but for the fields that were forged under our names.
async function* content(own: Buffer, message: Message, hostname: string): AsyncGenerator<Buffer, void, void> {
  yield Buffer.concat([own, bridge(message.head)])
  let from = 0
  const header: HeaderBlock = message.header()
  for (const field of header.fields) {
    if (!isForged(field, hostname)) continue
    if (field.start > from) yield message.head.subarray(from, field.start)
    from = field.end
  }
  yield* message.chunks(from)
}

// What stands between our fields and the message, so that the message cannot go on in our last field and its own lines mean what they meant:
// text without a header becomes the body, a mailbox separator a field (as Postfix names it).
function bridge(head: Buffer): Buffer {
  const first = firstLine(head)
  return Buffer.from(first === 'text' ? '\r\n' : first === 'mbox' ? 'X-Mailbox-Line: ' : '')
}

interface Conclusion {
  readonly delivered: Delivered
  readonly action: 'deliver' | 'tag'
}

function conclude(session: Session, tx: Transaction, { delivered, action }: Conclusion): Reply | undefined {
  const end = (rest: TransactionEnd): Reply | undefined => {
    tx.end({ ...rest, action })
    return rest.reply
  }
  const withdrawn = () => end({ outcome: 'client-gone', reply: undefined, reason: 'the client left before the commit' })
  switch (delivered.kind) {
    case 'answered': {
      const r = backendReply(delivered.reply, 'DOT')
      const taken = r.code >= 200 && r.code < 300
      if (taken) {
        session.delivered++
        session.conduct.delivered()
      }
      const backend = { name: delivered.server, reply: delivered.reply }
      return end({ outcome: taken ? 'delivered' : 'backend-refused', reply: r, backend })
    }
    case 'failed':
      if (session.wire.gone) return withdrawn()
      return end({ outcome: 'backend-lost', reply: faultReply(delivered.error.fault), reason: delivered.error.message })
    case 'unknown': {
      // P2: neither 250 nor 5xx. A duplicate is possible, a loss is not.
      const r = reply(451, [4, 2], 'Answer of the mail system lost, try again later')
      return end({ outcome: 'unknown', reply: r, reason: `${delivered.server}: ${delivered.why}` })
    }
    case 'withdrawn':
      return session.wire.gone
        ? withdrawn()
        : end({ outcome: 'client-gone', reply: SENT_AHEAD, reason: 'too much sent ahead' })
  }
}
