// DATA: taking the message in, and handing it to judgement and delivery.
// Promise (P4): whatever is wrong with a message, it is read to its true end of data and answered there, or the connection is closed. The
// backend is not in DATA meanwhile. Memory is bounded: what is over a limit is read and dropped.
import { DataDecoder } from '../smtp/data-decoder.ts'
import { type Reply, reply } from '../smtp/reply.ts'
import { judgeAndDeliver } from './delivery.ts'
import { type Broken, Intake, type Lines } from './intake.ts'
import { OUT_OF_STEP, verdictReply } from './replies.ts'
import type { Session } from './session.ts'
import type { Transaction } from './transaction.ts'
import type { VerbRule } from './verbs.ts'

export const dataVerb: VerbRule<'DATA'> = {
  check(session) {
    const { tx } = session
    if (tx === undefined) return reply(503, [5, 1], 'Say MAIL first')
    if (tx.chunks !== undefined) return reply(503, [5, 1], 'The message comes in chunks')
    if (tx.accepted.length === 0) return reply(554, [5, 1], 'No valid recipients')
    return { ask: () => ask(session, tx), proceed: () => proceed(session, tx) }
  },
}

async function ask(session: Session, tx: Transaction): Promise<Reply | undefined> {
  const { chain, deps } = session
  const result = await chain.data(tx, tx.facts, { log: deps.log, trusted: tx.trusted })
  tx.absorb(result)
  const { decided } = result
  if (decided === undefined || (tx.exemptOnly && decided.verdict.kind !== 'hangup')) return undefined
  const r = verdictReply(decided, tx.id)
  const outcome = decided.verdict.kind === 'reject' ? 'refused' : 'deferred'
  tx.end({ outcome, reply: r, reason: `${decided.filter}: ${decided.verdict.reason}` })
  session.tx = undefined
  return r
}

async function proceed(session: Session, tx: Transaction): Promise<Reply | undefined> {
  // RFC 2920 3.1: DATA ends a group; text behind it comes from a client that has not seen our answer.
  if (session.lines.buffered > 0 || session.wire.hasInput) {
    tx.end({ outcome: 'refused', reply: OUT_OF_STEP, reason: 'text sent before the answer to DATA' })
    session.tx = undefined
    return OUT_OF_STEP
  }
  session.busy = true
  try {
    session.write({ code: 354, lines: ['End data with <CR><LF>.<CR><LF>'] }, 'DATA')
    await session.flush()
    return await receiveAndDeliver(session, tx)
  } finally {
    session.busy = false
    session.tx = undefined
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
