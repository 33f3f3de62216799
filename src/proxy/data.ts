// DATA: taking the message in, and handing it to judgement and delivery.
// Promise (P4): whatever is wrong with a message, it is read to its true end of data and answered there, or the connection is closed. The
// backend is not in DATA meanwhile. Memory is bounded: what is over a limit is read and dropped.
import { DataDecoder } from '../smtp/data-decoder.ts'
import { type Reply, reply } from '../smtp/reply.ts'
import { judgeAndDeliver } from './delivery.ts'
import { Intake, type Lines } from './intake.ts'
import { OUT_OF_STEP, verdictReply } from './replies.ts'
import type { Session } from './session.ts'
import type { Broken } from './timed-reader.ts'
import type { Transaction } from './transaction.ts'
import type { VerbRule } from './verbs.ts'

export const dataVerb: VerbRule<'DATA'> = {
  check(session) {
    const { tx } = session
    // RFC 2920 3.1: DATA ends a group; text behind it comes from a client that has not seen our answer. It may be a message, so whatever the
    // answer would have been, it must not be read as commands.
    if (sentAhead(session)) return OUT_OF_STEP
    if (tx === undefined) return reply(503, [5, 1], 'Say MAIL first')
    if (tx.chunks !== undefined) return reply(503, [5, 1], 'The message comes in chunks')
    if (tx.accepted.length === 0) return reply(554, [5, 1], 'No valid recipients')
    return { ask: () => ask(session, tx), proceed: () => proceed(session, tx) }
  },
}

function sentAhead(session: Session): boolean {
  return session.lines.buffered > 0 || session.wire.hasInput
}

async function ask(session: Session, tx: Transaction): Promise<Reply | undefined> {
  const { chain } = session
  const result = await chain.data(tx, tx.facts, { log: tx.log, trusted: tx.trusted })
  tx.absorb(result)
  const { decided } = result
  if (sentAhead(session))
    return endWith(session, tx, { reply: OUT_OF_STEP, reason: 'text sent before the answer to DATA' })
  if (decided === undefined || (tx.exemptOnly && decided.verdict.kind !== 'hangup')) return undefined
  return endWith(session, tx, {
    reply: verdictReply(decided, tx.id),
    reason: `${decided.filter}: ${decided.verdict.reason}`,
  })
}

function endWith(session: Session, tx: Transaction, { reply: r, reason }: { reply: Reply; reason: string }): Reply {
  tx.end({ outcome: r.code >= 500 ? 'refused' : 'deferred', reply: r, reason })
  session.tx = undefined
  return r
}

async function proceed(session: Session, tx: Transaction): Promise<Reply | undefined> {
  session.busy = true
  try {
    session.write({ code: 354, lines: ['End data with <CR><LF>.<CR><LF>'] }, 'DATA')
    await session.flush()
    const r = await receiveAndDeliver(session, tx)
    // Not in `finally`: after an exception the session ends, and ends the transaction with it (P11).
    session.tx = undefined
    return r
  } finally {
    session.busy = false
  }
}

async function receiveAndDeliver(session: Session, tx: Transaction): Promise<Reply | undefined> {
  const intake = new Intake(session, tx)
  const decoder = new DataDecoder((bytes) => intake.keep(bytes))
  while (!decoder.ended) {
    const chunk = await intake.read()
    if ('why' in chunk) return breakOff(tx, chunk)
    const used = decoder.push(chunk)
    if (used < chunk.length) session.lines.push(chunk.subarray(used))
  }
  await intake.stored()
  return finish(session, tx, { intake, lines: decoder })
}

/** Ends a transaction whose message never came to its end. */
export function breakOff(tx: Transaction, { reply: r, why }: Broken): Reply | undefined {
  tx.end({ outcome: r === undefined ? 'client-gone' : 'deferred', reply: r, reason: why })
  return r
}

/** Refuses the complete message, or has it judged and delivered. */
export async function finish(
  session: Session,
  tx: Transaction,
  { intake, lines }: { intake: Intake; lines: Lines },
): Promise<Reply | undefined> {
  const refusal = intake.refusal(lines)
  if (refusal === undefined) return judgeAndDeliver(session, tx, intake.message)
  tx.end({ outcome: refusal.reply.code >= 500 ? 'refused' : 'deferred', reply: refusal.reply, reason: refusal.why })
  return refusal.reply
}
