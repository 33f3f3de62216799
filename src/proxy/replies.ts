// What the client is told where a filter, the score or the backend decided: the one place that turns decisions into replies.
// Promise (P9): a short vague text with the id to the stranger; the reason stands under that id in our log. A 5xx never comes from a fault
// of ours or of the backend (P6).
import type { Decided } from '../filter/chain.ts'
import { closing, type EnhancedDetail, type Reply, reply } from '../smtp/reply.ts'

/** The reply for a verdict: the filter's own where it has one, with the id at its end. */
export function verdictReply(decided: Decided, id: string): Reply {
  const { verdict } = decided
  switch (verdict.kind) {
    case 'reject':
      return withId(verdict.reply ?? reply(550, [7, 1], 'Refused by policy'), id)
    case 'defer':
      return withId(verdict.reply ?? reply(451, [7, 1], 'Not now, try again later'), id)
    case 'hangup':
      return { ...withId(verdict.reply ?? reply(421, [7, 0], 'Closing'), id), close: true }
  }
}

/** The score of the message or its envelope is over a threshold. */
export function scoreReply(action: 'reject' | 'defer', id: string): Reply {
  return action === 'reject'
    ? withId(reply(550, [7, 1], 'Message refused as spam'), id)
    : withId(reply(451, [7, 1], 'Message not taken now, try again later'), id)
}

const TEXT_WITH_ID = 440

/** The filter's reply may end the connection only through the verdict `hangup`. */
function withId(r: Reply, id: string): Reply {
  // Room for the id on the last line, whatever the filter says there (a reply line has 512 octets).
  const last = (r.lines.at(-1) ?? '').slice(0, TEXT_WITH_ID)
  const lines = [...r.lines.slice(0, -1), `${last} (id ${id})`]
  return { code: r.code, lines, enhanced: r.enhanced ?? (r.code >= 500 ? [7, 1] : [7, 0]) }
}

const POSITIVE_DETAIL = new Map<string, EnhancedDetail>([
  ['MAIL', [1, 0]],
  ['RCPT', [1, 5]],
])

// The backend wants TLS or a login of us: that is how we were set up, not what the client did (P6).
const ABOUT_US = new Set([530, 534, 535, 538])

/**
 * The backend's own answer, for the client: its code and text; an enhanced code is added where it gave none (RFC 2034), of class 0 where we
 * know no more. Its 421 is about its connection with us, not ours with the client: 451 (and the session goes on).
 */
export function backendReply(r: Reply, command: 'MAIL' | 'RCPT' | 'DOT'): Reply {
  if (ABOUT_US.has(r.code)) return reply(451, [3, 5], 'Mail system not ready for mail, try again later')
  const fallback: EnhancedDetail = r.code < 300 ? (POSITIVE_DETAIL.get(command) ?? [0, 0]) : [0, 0]
  return { code: clientCode(r.code, command), lines: r.lines, enhanced: r.enhanced ?? fallback }
}

function clientCode(code: number, command: string): number {
  if (code === 421) return 451
  // 220 or 221 to the dot is a yes of a strange kind; to our client it would mean something else.
  return command === 'DOT' && code < 300 ? 250 : code
}

/** Known, and not offered here. */
export const NOT_IMPLEMENTED = reply(502, [5, 1], 'Command not implemented')
/** So much behind the end of data that the client cannot be watched any more: it is not waiting for our answer. */
export const SENT_AHEAD = closing(421, [7, 0], 'Too much sent ahead, closing')
export const STOPPING = closing(421, [3, 2], 'Service stopping, try again later')
export const TOO_SLOW = closing(421, [4, 2], 'Timeout, closing')
export const LOCAL_PROBLEM = closing(421, [3, 0], 'Local problem, closing')
export const OUT_OF_STEP = closing(554, [5, 0], 'Commands sent too early, closing')
export const TOO_MANY_ERRORS = closing(421, [7, 0], 'Too many errors, closing')
