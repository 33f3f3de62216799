// DATA: taking the message in, and handing it to judgement and delivery.
// Promise (P4): whatever is wrong with a message, it is read to its true end of data and answered there, or the connection is closed. The
// backend is not in DATA meanwhile. Memory is bounded: what is over a limit is read and dropped.
import { Message, SpoolError } from '../message/message.ts'
import { DataDecoder } from '../smtp/data-decoder.ts'
import { type Reply, reply } from '../smtp/reply.ts'
import { judgeAndDeliver } from './delivery.ts'
import { OUT_OF_STEP, STOPPING, TOO_SLOW, verdictReply } from './replies.ts'
import type { Session } from './session.ts'
import type { Transaction } from './transaction.ts'
import type { VerbRule } from './verbs.ts'

// Minimum rate: nobody is judged by the first minute.
const RATE_CREDIT = 60_000

const STORAGE_FULL = reply(452, [3, 1], 'Out of storage, try again later')

export const dataVerb: VerbRule<'DATA'> = {
  check(session) {
    const { tx } = session
    if (tx === undefined) return reply(503, [5, 1], 'Say MAIL first')
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
  const received = await receive(session, tx)
  if (received.kind === 'ended') {
    tx.end({ outcome: 'client-gone', reply: received.reply, reason: received.why })
    return received.reply
  }
  if (received.kind === 'refused') {
    tx.end({
      outcome: received.reply.code >= 500 ? 'refused' : 'deferred',
      reply: received.reply,
      reason: received.why,
    })
    return received.reply
  }
  return judgeAndDeliver(session, tx, received.message)
}

type Received =
  | { readonly kind: 'message'; readonly message: Message }
  /** Read to its end, and not acceptable. */
  | { readonly kind: 'refused'; readonly reply: Reply; readonly why: string }
  /** The end of data never came. */
  | { readonly kind: 'ended'; readonly reply: Reply | undefined; readonly why: string }

async function receive(session: Session, tx: Transaction): Promise<Received> {
  const { deps, wire, lines } = session
  const { clock, limits } = deps
  const message = new Message(deps.storage)
  tx.message = message
  const maximum = session.offer?.size ?? limits.messageSize
  let tooLarge = false
  const decoder = new DataDecoder((bytes) => {
    if (tooLarge) return
    tooLarge = message.size + bytes.length > maximum
    if (tooLarge) message.dispose()
    else message.append(bytes)
  })
  const started = clock.now()
  let octets = 0
  let spool: SpoolError | undefined
  while (!decoder.ended) {
    const elapsed = clock.now() - started
    const chunk = await wire.read(Math.min(limits.idle, limits.dataTime - elapsed))
    if (chunk === 'end') return { kind: 'ended', reply: undefined, why: 'the client left inside the message' }
    if (chunk === 'timeout') return { kind: 'ended', reply: TOO_SLOW, why: 'the client stalled inside the message' }
    if (chunk === 'interrupted')
      return { kind: 'ended', reply: STOPPING, why: 'the gateway stopped inside the message' }
    octets += chunk.length
    const used = decoder.push(chunk)
    if (used < chunk.length) lines.push(chunk.subarray(used))
    if (message.lagging || decoder.ended) spool ??= await spoolFailure(message)
    if (!decoder.ended && tooSlow(octets, clock.now() - started, limits.dataRate)) {
      return { kind: 'ended', reply: TOO_SLOW, why: `fewer than ${limits.dataRate} octets a second` }
    }
  }
  if (spool !== undefined) {
    deps.log.error({ session: session.id, error: spool.message }, 'spool failed: is the disk of data_dir full?')
    return { kind: 'refused', reply: STORAGE_FULL, why: `spool: ${spool.message}` }
  }
  const refusal =
    defectReply(session, decoder) ??
    (tooLarge ? reply(552, [3, 4], 'Message too large') : contentReply(session, message, decoder))
  if (refusal === undefined) return { kind: 'message', message }
  return { kind: 'refused', reply: refusal, why: `protocol: ${refusal.lines[0] ?? ''}` }
}

function tooSlow(octets: number, elapsed: number, rate: number): boolean {
  return octets < (rate * (elapsed - RATE_CREDIT)) / 1000
}

async function spoolFailure(message: Message): Promise<SpoolError | undefined> {
  try {
    await message.settled()
    return undefined
  } catch (error) {
    if (!(error instanceof SpoolError)) throw error
    message.dispose()
    return error
  }
}

function defectReply(session: Session, decoder: DataDecoder): Reply | undefined {
  const { bareCr, bareLf, nul, nearEnd } = decoder.defects
  const strict = session.listener.bareNewline === 'reject'
  if (!bareCr && !nul && !nearEnd && !(strict && bareLf)) return undefined
  return reply(550, [5, 2], 'Message with stray line ends or NUL refused')
}

function contentReply(session: Session, message: Message, decoder: DataDecoder): Reply | undefined {
  const { limits } = session.deps
  if (decoder.longestLine > limits.lineLength) return reply(554, [6, 0], 'Line too long in message')
  const { fields, end } = message.header()
  if (end > limits.headerSize || fields.length > limits.headerFields) return reply(552, [3, 4], 'Header too large')
  // RFC 5321 6.3
  const hops = fields.filter((f) => f.name.toLowerCase() === 'received').length
  if (hops > limits.received) return reply(554, [4, 6], 'Too many hops, this looks like a loop')
  return undefined
}
