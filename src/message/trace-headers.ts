// The headers that we put on top of a message, and the forged ones under our names that we take out.
// Promise: nothing a stranger wrote gets into them but validated atoms (P10); below them not one octet changes, so signatures survive.
// Received carries no recipient: with several it would tell each of them who else was there (RFC 5321 7.2, Bcc).
import { isIP } from 'node:net'
import { type HeaderField, unfolded } from './headers.ts'

export interface Trace {
  readonly hostname: string
  readonly id: string
  readonly client: string
  readonly helo: string
  /** `SMTP`, `ESMTP`, … (RFC 3848). */
  readonly protocol: string
  readonly date: Date
}

export interface SpamStatus {
  readonly tagged: boolean
  readonly score: number
  readonly required: number
  readonly tests: readonly { readonly symbol: string; readonly score: number }[]
}

const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat']
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']
const LINE_LENGTH = 76
const TESTS_MAX = 200

/** `Received` (RFC 5321 4.4), CRLF included. */
export function receivedHeader(trace: Trace): string {
  const literal = isIP(trace.client) === 6 ? `IPv6:${trace.client}` : trace.client
  return (
    `Received: from ${heloAtom(trace.helo)} ([${literal}])\r\n` +
    `\tby ${trace.hostname} (Postern) with ${trace.protocol} id ${trace.id};\r\n` +
    `\t${mailDate(trace.date)}\r\n`
  )
}

// A domain or a literal passes, everything else becomes a word that says what it was not.
function heloAtom(helo: string): string {
  return /^(?:[a-z0-9_](?:[a-z0-9_.-]{0,253}[a-z0-9_])?|\[[a-f0-9.:]{2,45}\]|\[IPv6:[a-f0-9.:]{2,45}\])$/i.test(helo)
    ? helo
    : 'invalid.helo'
}

/** RFC 5322 3.3, in UTC. */
export function mailDate(date: Date): string {
  const two = (n: number) => String(n).padStart(2, '0')
  return (
    `${DAYS[date.getUTCDay()]}, ${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]} ${date.getUTCFullYear()} ` +
    `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())} +0000`
  )
}

/** `X-Spam-Flag`, `X-Spam-Score`, `X-Spam-Status` and `X-Postern-Id`, CRLF included. */
export function spamHeaders(status: SpamStatus, id: string): string {
  const yes = status.tagged
  const tests = status.tests.slice(0, TESTS_MAX).map((t) => `${t.symbol}=${decimal(t.score)}`)
  const head = `${yes ? 'Yes' : 'No'}, score=${decimal(status.score)} required=${decimal(status.required)}`
  return (
    `X-Spam-Flag: ${yes ? 'YES' : 'NO'}\r\n` +
    `X-Spam-Score: ${decimal(status.score)}\r\n` +
    `X-Spam-Status: ${foldList(`${head} tests=`, tests.length === 0 ? ['none'] : tests)}\r\n` +
    `X-Postern-Id: ${id}\r\n`
  )
}

function decimal(n: number): string {
  const text = n.toFixed(1)
  return text === '-0.0' ? '0.0' : text
}

// Folds behind commas only, so that a reader that unfolds sees one list.
function foldList(head: string, items: readonly string[]): string {
  let out = ''
  let line = head
  items.forEach((item, i) => {
    const piece = i === items.length - 1 ? item : `${item},`
    if (line.length + piece.length > LINE_LENGTH && line.trim() !== '') {
      out += `${line}\r\n`
      line = '\t'
    }
    line += piece
  })
  return out + line
}

/** Whether a field of the message claims to be ours: it is taken out before ours are put on (RFC 8601 section 5). */
export function isForged(field: HeaderField, hostname: string): boolean {
  const name = field.name.toLowerCase()
  if (name === 'x-spam' || name.startsWith('x-spam-') || name.startsWith('x-postern-')) return true
  return name === 'authentication-results' && claimsAuthservId(unfolded(field.value), hostname)
}

// RFC 8601 2.2: a quoted string or a token (RFC 2045 5.1), and behind it a blank, a comment, `;` or nothing.
const AUTHSERV_ID = /^(?:"((?:[^"\\]|\\.)*)"|([^\s\x00-\x1f()<>@,;:\\"/[\]?=]+))(?=[ \t;(]|$)/

/**
 * Whether the authserv-id of an Authentication-Results field is `hostname`. CFWS, quoting and letter case are seen through, and what cannot
 * be parsed counts as a claim: a reader downstream may parse it in its own way.
 */
function claimsAuthservId(value: string, hostname: string): boolean {
  const afterComments = skipComments(value)
  if (afterComments === undefined) return true
  const match = AUTHSERV_ID.exec(afterComments)
  if (match === null) return true
  const id = (match[2] ?? match[1]?.replace(/\\(.)/g, '$1') ?? '').trim().toLowerCase()
  return id.replace(/\.$/, '') === hostname.toLowerCase()
}

function skipComments(value: string): string | undefined {
  let depth = 0
  for (let i = 0; i < value.length; i++) {
    const c = value[i]
    if (depth > 0 && c === '\\') i++
    else if (c === '(') depth++
    else if (c === ')' && depth > 0) depth--
    else if (depth === 0 && c !== ' ' && c !== '\t') return value.slice(i)
  }
  return undefined
}
