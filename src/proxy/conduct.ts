// How a client behaves: errors, junk commands and guessed recipients, counted and judged.
// Facts are counted here; what follows from them (a delay, 421) is the session's to do.
import type { Reply } from '../smtp/reply.ts'
import type { Limits } from './deps.ts'
import { RELAYING_DENIED } from './relay.ts'

// Commands that do nothing for a message.
const JUNK = new Set(['HELO', 'EHLO', 'RSET', 'NOOP', 'HELP', 'VRFY', 'XCLIENT', 'XFORWARD'])

// A list that sends to ten times as many as are taken at once is answered; somebody who goes on for ever is not.
const REFUSED_FACTOR = 10

export class Conduct {
  commands = 0
  errors = 0
  readonly #limits: Limits
  #junk = 0
  #unknownRecipients = 0
  #refusedRecipients = 0
  #mailRefused = false
  #failedLogins = 0

  constructor(limits: Limits) {
    this.#limits = limits
  }

  /** Counts an answer that is about to be sent. */
  answered(r: Reply, verb: string): 'fine' | 'slow-down' | 'too-much' {
    this.commands++
    if (verb === 'MAIL') this.#mailRefused = r.code >= 400
    // RCPT and DATA that were pipelined behind a MAIL which was refused are no fault of the client.
    const atFault = isClientError(r) && !(r.code === 503 && this.#mailRefused)
    if (atFault) this.errors++
    if (isJunk(verb, r.code)) this.#junk++
    if (verb === 'RCPT' && r.code >= 400) this.#refusedRecipients++
    if (this.#isTooMuch()) return 'too-much'
    return atFault && this.errors > this.#limits.errorsSoft ? 'slow-down' : 'fine'
  }

  #isTooMuch(): boolean {
    const { errors, junkCommands, recipients } = this.#limits
    return this.errors > errors || this.#junk > junkCommands || this.#refusedRecipients > recipients * REFUSED_FACTOR
  }

  /** The backend that was opened for an exempt recipient refused MAIL. */
  mailRefused(): void {
    this.#mailRefused = true
  }

  /** A login failed. True: once too often for one session. */
  failedLogin(): boolean {
    this.#failedLogins++
    return this.#failedLogins >= this.#limits.authFailures
  }

  /** A message went through: what came before it was no junk. */
  delivered(): void {
    this.#junk = 0
    this.#refusedRecipients = 0
  }

  /** security.md 2.5: the backend refused a recipient. True: too many, this is somebody who tries names. */
  unknownRecipient(): boolean {
    if (this.#unknownRecipients >= this.#limits.unknownRecipients) return true
    this.#unknownRecipients++
    return false
  }
}

// What does nothing for a message, whether it was taken or not.
function isJunk(verb: string, code: number): boolean {
  if (JUNK.has(verb)) return true
  return (code === 554 && (verb === 'DATA' || verb === 'BDAT')) || (code === 552 && verb === 'MAIL')
}

// Replies that say "you speak the protocol wrongly", as opposed to "this mail is not wanted".
function isClientError(r: Reply): boolean {
  return (r.code >= 500 && r.code <= 504) || r.code === 521 || r.code === 555 || r === RELAYING_DENIED
}
