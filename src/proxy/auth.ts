// AUTH, handed on to the backend: the gateway knows no password and keeps none.
// Promise: only inside TLS, only mechanisms that can be handed on, only base64 passes; the backend's 235 makes the session authenticated, and
// its connection stays with the session (never pooled, never replayed). No line of the exchange is ever logged.
import { closing, type Reply, reply } from '../smtp/reply.ts'
import { accountOf, isBase64, parseAuth, SASL_LINE } from '../smtp/sasl.ts'
import { BackendError, faultReply, type PinnedBackend } from './destination.ts'
import { readLine } from './line-input.ts'
import { NOT_IMPLEMENTED, OUT_OF_STEP } from './replies.ts'
import type { Session } from './session.ts'
import type { VerbRule } from './verbs.ts'

const ANSWER_PATIENCE = 60_000

const TOO_MANY_FAILURES = closing(421, [7, 0], 'Too many failed logins, closing')
const WAIT = reply(454, [7, 0], 'Too many failed logins, try again later')
const BAD_BASE64 = reply(501, [5, 2], 'Not base64')
const CANCELLED = reply(501, [7, 0], 'Login cancelled')
const NO_BACKEND = reply(454, [7, 0], 'Login not possible now, try again later')

// No AUTH, or not so: how we and the backend were set up, not what the client did (P6).
const ABOUT_US = new Set([502, 503, 504, 530, 538])

export const authVerb: VerbRule<'AUTH'> = {
  check(session, command) {
    if (session.listener.kind !== 'submission') return NOT_IMPLEMENTED
    // RFC 4954 4: a password in clear has been given away already; it is not even looked at.
    if (session.secure === undefined) return reply(538, [7, 11], 'Encryption required for login')
    if (session.helo?.verb !== 'EHLO') return reply(503, [5, 1], 'Say EHLO first')
    if (session.login !== undefined) return reply(503, [5, 1], 'Logged in already')
    if (session.tx !== undefined) return reply(503, [5, 1], 'A transaction is open')
    if (session.lines.buffered > 0 || session.wire.hasInput) return OUT_OF_STEP
    const parsed = parseAuth(command.argument)
    if (parsed.kind === 'error') return reply(501, [5, 4], 'Syntax: AUTH mechanism [initial-response]')
    if (!session.offer?.auth.includes(parsed.mechanism)) return reply(504, [5, 4], 'Mechanism not offered')
    return { proceed: () => logIn(session, parsed.mechanism, parsed.initial) }
  },
}

async function logIn(session: Session, mechanism: string, initial: string | undefined): Promise<Reply | undefined> {
  const { authGuard, destination } = session.deps
  if (authGuard.blocksClient(session.client.address)) return WAIT
  let backend: PinnedBackend | undefined
  try {
    backend = await destination.pin(session.identity)
    const r = await exchange(session, backend, { mechanism, initial })
    tellLogin(session, r)
    if (r?.code === 235) {
      session.loggedIn(backend)
      return r
    }
    // An exchange that is not brought to its end costs the backend as much as a wrong password.
    if (r === undefined || r === CANCELLED || r === BAD_BASE64) authGuard.failed(session.client.address, undefined)
    backend.close()
    return r
  } catch (error) {
    backend?.close()
    if (!(error instanceof BackendError)) throw error
    session.log.warn({ backend: error.server, fault: error.fault, error: error.message }, 'login: backend failed')
    return error.fault === 'unreachable' || error.fault === 'busy' ? faultReply(error.fault) : NO_BACKEND
  }
}

// Whoever watches for guessing (fail2ban, a dashboard) needs the client and the result; the name may be a password typed into the wrong field.
function tellLogin(session: Session, r: Reply | undefined): void {
  const result = r?.code === 235 ? 'ok' : r?.code === 535 || r === TOO_MANY_FAILURES ? 'failed' : 'not-done'
  const { listener, client, deps } = session
  deps.events.emit('login', { session: session.id, listener: listener.name, client: client.address, result })
}

interface Start {
  readonly mechanism: string
  readonly initial: string | undefined
}

// 334 and an answer, in turn, until the backend has heard enough.
async function exchange(
  session: Session,
  backend: PinnedBackend,
  { mechanism, initial }: Start,
): Promise<Reply | undefined> {
  const { authGuard } = session.deps
  // An empty initial response names nobody: servers ask for the name behind it (LOGIN), and that one is counted.
  const answers = initial === undefined || initial === '=' ? [] : [initial]
  if (authGuard.blocksAccount(accountOf(mechanism, answers))) return WAIT
  let said = await backend.say(`AUTH ${mechanism}${initial === undefined ? '' : ` ${initial}`}`)
  while (said.code === 334) {
    const challenge = said.lines[0] ?? ''
    if (said.lines.length !== 1 || !isBase64(challenge)) return NO_BACKEND
    session.write({ code: 334, lines: [challenge] }, 'AUTH')
    const answer = await readAnswer(session)
    if (typeof answer !== 'string') return answer.reply
    if (answer === '*') return CANCELLED
    if (!isBase64(answer)) return BAD_BASE64
    answers.push(answer)
    if (authGuard.blocksAccount(accountOf(mechanism, answers))) return WAIT
    said = await backend.say(answer)
  }
  return judged(session, said, accountOf(mechanism, answers))
}

async function readAnswer(session: Session): Promise<string | { readonly reply: Reply | undefined }> {
  session.lines.limit = SASL_LINE
  // A backend connection waits as well: longer than somebody needs to type is longer than a stranger may hold it.
  const line = await readLine(session, Math.min(session.deps.limits.idle, ANSWER_PATIENCE))
  session.lines.limit = session.deps.limits.commandLine
  switch (line.kind) {
    case 'line':
      return line.bytes.toString('latin1')
    case 'over':
      return { reply: line.reply }
    case 'defect':
      return { reply: reply(500, [5, 2], 'Line too long, or with control characters or stray line ends') }
    case 'endless':
      return { reply: closing(500, [5, 2], 'Line without end, closing') }
  }
}

function judged(session: Session, said: Reply, account: string | undefined): Reply {
  const { authGuard } = session.deps
  if (said.code === 235) {
    authGuard.succeeded(account)
    return reply(235, [7, 0], 'Logged in')
  }
  if (said.code < 400) return NO_BACKEND
  // The backend's trouble, not a wrong password.
  if (said.code < 500 || ABOUT_US.has(said.code)) return reply(454, [7, 0], 'Login not possible now, try again later')
  authGuard.failed(session.client.address, account)
  if (session.conduct.failedLogin()) return TOO_MANY_FAILURES
  // One text for a wrong name and a wrong password, whatever the backend tells.
  return reply(535, [7, 8], 'Login failed')
}
