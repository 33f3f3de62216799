// BDAT (RFC 3030): the message in counted chunks, sent on as DATA.
// Promise: the payload of a chunk is read by its count whatever is wrong with the command, so that no octet of it is ever taken for a command;
// where the count cannot be read the connection is closed. After an error the transaction is over: only RSET, EHLO or QUIT help.
// No DATA and no RCPT after the first chunk.
import { ChunkDecoder } from '../smtp/chunk-decoder.ts'
import { closing, type Reply, reply } from '../smtp/reply.ts'
import { breakOff, finish } from './data.ts'
import { Intake } from './intake.ts'
import { verdictReply } from './replies.ts'
import type { Session } from './session.ts'
import { type Broken, TimedReader } from './timed-reader.ts'
import type { Transaction } from './transaction.ts'
import type { VerbRule } from './verbs.ts'

/** A message that comes in chunks: between two BDAT commands it is kept here. */
export interface Chunks {
  readonly intake: Intake
  readonly decoder: ChunkDecoder
  count: number
}

// Postfix's memory bug of 2026: many tiny chunks. Ours cost nothing to keep, but each is an answer.
const CHUNKS_MAX = 10_000
const NOT_OFFERED = closing(521, [5, 1], 'BDAT was not offered, closing')
const UNREADABLE = closing(501, [5, 4], 'Syntax: BDAT size [LAST], closing')
const TOO_LARGE = closing(552, [3, 4], 'Chunk too large, closing')

export const bdatVerb: VerbRule<'BDAT'> = {
  check(session, command) {
    // The payload would be read as commands: close (security.md 1.4).
    if (!session.listener.chunking) return NOT_OFFERED
    const match = /^(\d{1,20})(?: +(LAST))?$/i.exec(command.argument)
    if (match === null) return UNREADABLE
    const size = Number(match[1])
    // A message may be read to its end and thrown away, but not forever.
    if (size > session.deps.limits.messageSize * 2) return TOO_LARGE
    return { proceed: () => receiveChunk(session, { size, last: match[2] !== undefined }) }
  },
}

interface Chunk {
  readonly size: number
  readonly last: boolean
}

async function receiveChunk(session: Session, chunk: Chunk): Promise<Reply | undefined> {
  session.busy = true
  try {
    const { tx } = session
    const refusal = tx === undefined ? reply(503, [5, 1], 'Say MAIL first') : await begin(session, tx)
    if (tx?.chunks === undefined || refusal !== undefined) {
      const broken = await swallow(session, chunk.size)
      return broken === undefined ? refusal : broken.reply
    }
    return await takeChunk(session, tx, { ...tx.chunks, chunk })
  } finally {
    session.busy = false
  }
}

// The first chunk asks the filters what DATA would have asked them.
async function begin(session: Session, tx: Transaction): Promise<Reply | undefined> {
  if (tx.chunks !== undefined) {
    tx.chunks.count++
    return tx.chunks.count > CHUNKS_MAX
      ? give(session, tx, closing(421, [7, 0], 'Too many chunks, closing'))
      : undefined
  }
  if (tx.accepted.length === 0) return reply(554, [5, 1], 'No valid recipients')
  const { chain } = session
  const result = await chain.data(tx, tx.facts, { log: tx.log, trusted: tx.trusted })
  tx.absorb(result)
  const { decided } = result
  if (decided !== undefined && (!tx.exemptOnly || decided.verdict.kind === 'hangup')) {
    return give(session, tx, verdictReply(decided, tx.id))
  }
  const intake = new Intake(session, tx)
  tx.chunks = { intake, decoder: new ChunkDecoder((bytes) => intake.keep(bytes)), count: 1 }
  return undefined
}

function give(session: Session, tx: Transaction, r: Reply): Reply {
  tx.end({ outcome: r.code >= 500 ? 'refused' : 'deferred', reply: r })
  session.tx = undefined
  return r
}

async function takeChunk(
  session: Session,
  tx: Transaction,
  { intake, decoder, chunk }: Chunks & { readonly chunk: Chunk },
): Promise<Reply | undefined> {
  let left = chunk.size
  const early = session.lines.takeRest()
  intake.came(Math.min(early.length, left))
  for (let octets = early; ; ) {
    const taken = octets.subarray(0, left)
    decoder.push(taken)
    left -= taken.length
    if (left === 0) {
      if (taken.length < octets.length) session.lines.push(octets.subarray(taken.length))
      break
    }
    const next = await intake.read()
    if ('why' in next) {
      session.tx = undefined
      return breakOff(tx, next)
    }
    octets = next
  }
  if (!chunk.last) return reply(250, [0, 0], `${chunk.size} octets received`)
  decoder.end()
  await intake.stored()
  const r = await finish(session, tx, { intake, lines: decoder })
  session.tx = undefined
  return r
}

// Reads the payload of a chunk that nobody wants.
async function swallow(session: Session, size: number): Promise<Broken | undefined> {
  const reader = new TimedReader(session)
  let left = size
  for (let octets = session.lines.takeRest(); ; ) {
    left -= octets.length
    if (left <= 0) {
      if (left < 0) session.lines.push(octets.subarray(octets.length + left))
      return undefined
    }
    const next = await reader.read()
    if ('why' in next) return next
    octets = next
  }
}
