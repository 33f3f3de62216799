// What must hold for every reply of every case, whatever the case expects: `global_invariants` of the case file, in code.
// Pure: a reply, what it answers, and what the backend said so far -> a list of complaints.
import type { Answered } from './command-tracker.ts'
import type { Reply } from './reply-reader.ts'

/** What the check of a reply may need to know of the world. */
export interface ReplyContext {
  readonly backendPort: number
  readonly gatewayVersion: string
  /** Replies that the case makes its backend give: their text may be passed on as it is. */
  readonly scriptedReplies: readonly string[]
  /** Messages that the backend has said 2xx to. */
  readonly acceptedByBackend: () => number
  /** The case asks for a local disposition (discard, quarantine): 2xx without the backend is right. */
  readonly localDisposition: boolean
}

// RFC 2034 section 4: these replies carry an enhanced code.
const WITH_ENHANCED_CODE = new Set([
  'MAIL',
  'RCPT',
  'DATA-END',
  'BDAT',
  'BDAT-LAST',
  'RSET',
  'VRFY',
  'NOOP',
  'QUIT',
  'STARTTLS',
  'AUTH',
])
const WITHOUT_ENHANCED_CODE = new Set(['BANNER', 'EHLO', 'HELO'])

/** Checks the replies of one case; it counts the messages that the client was told are accepted. */
export class ReplyChecker {
  readonly #context: ReplyContext
  #promised = 0

  constructor(context: ReplyContext) {
    this.#context = context
  }

  check(reply: Reply, answered: Answered): string[] {
    const complaints = [
      ...reply.violations,
      ...(answered.violation === undefined ? [] : [answered.violation]),
      ...enhancedCodes(reply, answered.verb, this.#context.scriptedReplies),
      ...codeForVerb(reply.code, answered.verb),
      ...disclosures(reply.text, this.#context),
    ]
    const endsMessage = answered.verb === 'DATA-END' || answered.verb === 'BDAT-LAST'
    if (endsMessage && isPositive(reply)) {
      this.#promised++
      if (!this.#context.localDisposition && this.#promised > this.#context.acceptedByBackend()) {
        complaints.push('2xx to a message that the backend has not accepted')
      }
    }
    return complaints.map((text) => `${text} (reply to ${answered.verb}: ${JSON.stringify(shorten(reply.text))})`)
  }
}

function isPositive(reply: Reply): boolean {
  return reply.code >= 200 && reply.code < 300
}

function enhancedCodes(reply: Reply, verb: string, scripted: readonly string[]): string[] {
  const basic = String(reply.code)
  const complaints: string[] = []
  const found = reply.lines.map((line) => /^\d{3}[ -](\d)\.\d{1,3}\.\d{1,3}(?= |$)/.exec(line)?.[1])
  for (const digit of found) {
    if (digit !== undefined && digit !== basic[0])
      complaints.push(`enhanced code of class ${digit} in a ${basic} reply`)
  }
  const intermediate = reply.code >= 300 && reply.code < 400
  if ((intermediate || (isPositive(reply) && WITHOUT_ENHANCED_CODE.has(verb))) && found.some((d) => d !== undefined)) {
    complaints.push('enhanced code where none belongs')
  }
  const missing = found.some((digit) => digit === undefined)
  if (WITH_ENHANCED_CODE.has(verb) && !intermediate && missing && !passedOn(basic, scripted)) {
    complaints.push('no enhanced code')
  }
  return complaints
}

/** the text of the backend may be passed on without inventing a code for it. */
function passedOn(code: string, scripted: readonly string[]): boolean {
  return scripted.some((text) => text.startsWith(code) && !/^\d{3}[ -]\d\.\d{1,3}\.\d{1,3}(?: |$)/m.test(text))
}

function codeForVerb(code: number, verb: string): string[] {
  const wrong =
    (code === 220 && !['BANNER', 'STARTTLS', 'XCLIENT', '?'].includes(verb)) ||
    (code === 354 && verb !== 'DATA' && verb !== '?') ||
    (code === 334 && verb !== 'AUTH' && verb !== '?')
  return wrong ? [`code ${code} does not belong to ${verb}`] : []
}

/** No backend address, file path, stack trace or software version. */
function disclosures(text: string, context: ReplyContext): string[] {
  const withoutCodes = text.replace(/^\d{3}[ -]?(?:\d\.\d{1,3}\.\d{1,3}(?= |$))?/gm, '')
  const checks: readonly (readonly [string, RegExp])[] = [
    ['the address of the backend', new RegExp(`:${context.backendPort}\\b`)],
    ['a system error', /\bE(?:CONN|HOST|NET|TIMEDOUT|PIPE|NOENT|ACCES|NOSPC|MFILE|ADDR)[A-Z]*\b/],
    ['a file path', /(?:^|[\s"'(=:])(?:\/[\w.@-]+){2,}|\bfile:\/\/|\b[A-Za-z]:\\/],
    ['a stack trace', /\bat \S+ ?\(?\S*:\d+:\d+|\b\w+\.[cm]?[jt]s\b:\d+|\b(?:Type|Range|Syntax|Reference)Error\b/],
    ['a software version', /\b(?:postern|node(?:\.js)?)[\s/-]*v?\d/i],
    ['a software version', new RegExp(`(?<![\\d.])${escapePattern(context.gatewayVersion)}(?![\\d.])`)],
  ]
  return checks.filter(([, pattern]) => pattern.test(withoutCodes)).map(([what]) => `the reply discloses ${what}`)
}

function escapePattern(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}

function shorten(text: string): string {
  return text.length <= 200 ? text : `${text.slice(0, 200)}…`
}
