// The next line from the client, in bounded time.
// The deadline is for a whole line: one octet now and then does not extend it.
import type { Line } from '../smtp/line-reader.ts'
import { closing, type Reply } from '../smtp/reply.ts'
import { STOPPING, TOO_SLOW } from './replies.ts'
import type { Session } from './session.ts'

/** No line will come: how the session ended, and the last word where there is somebody to hear it. */
export interface Over {
  readonly kind: 'over'
  readonly how: string
  readonly reply: Reply | undefined
}

// A client that ends its lines with LF alone hears why nothing happens, and is sent away: what it says is never taken for commands.
const BARE_LF_PATIENCE = 2000
const BARE_LF = closing(500, [5, 2], 'Lines must end with CR LF, closing')

/** `patience`: milliseconds for the whole line; limits.idle unless told. */
export async function readLine(session: Session, patience = session.deps.limits.idle): Promise<Line | Over> {
  const { clock } = session.deps
  let line = session.lines.next()
  if (line !== undefined) return line
  await session.flush()
  const deadline = clock.now() + patience
  for (;;) {
    const left = deadline - clock.now()
    const stuck = session.lines.stuckAtLf
    const got = await session.wire.read(stuck ? Math.min(left, BARE_LF_PATIENCE) : left)
    if (got === 'end') return { kind: 'over', how: 'closed', reply: undefined }
    if (got === 'interrupted') return { kind: 'over', how: 'stopped', reply: STOPPING }
    if (got === 'timeout') {
      return stuck
        ? { kind: 'over', how: 'bare-lf', reply: BARE_LF }
        : { kind: 'over', how: 'timeout', reply: TOO_SLOW }
    }
    session.lines.push(got)
    line = session.lines.next()
    if (line !== undefined) return line
  }
}
