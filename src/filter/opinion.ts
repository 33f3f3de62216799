// Whether what a filter answered is an opinion at all. A plugin is code from elsewhere: its answer is checked like any input, once, here,
// and a wrong one is a failure of the filter (P6), never a strange reply to the client.
import type { Reply } from '../smtp/reply.ts'
import type { Finding, HeaderField, Opinion, Verdict } from './filter.ts'

const FINDINGS_MAX = 1000
const HEADERS_MAX = 20
const SYMBOL = /^[A-Z][A-Z0-9_]{0,63}$/
const HEADER_NAME = /^[!-9;-~]{1,76}$/
const HEADER_VALUE = /^[\t -~]{0,900}$/
const RESERVED_HEADER = /^(?:received|authentication-results|x-spam.*|x-postern-.*)$/i

/** Returns what is wrong with an answer, or undefined where it is a proper Opinion (or undefined itself). */
export function opinionDefect(answer: unknown): string | undefined {
  if (answer === undefined) return undefined
  if (typeof answer !== 'object' || answer === null)
    return `answered ${answer === null ? 'null' : typeof answer}, not an opinion`
  // A list, an error that was returned instead of thrown, a Map: nothing in them would be looked at.
  if (Object.prototype.toString.call(answer) !== '[object Object]') return 'answered with an object that is no opinion'
  for (const key of Object.keys(answer)) {
    if (key !== 'findings' && key !== 'verdict' && key !== 'headers')
      return `answered with the unknown property '${key.slice(0, 40)}'`
  }
  const opinion = answer as Opinion
  return (
    listDefect('findings', opinion.findings, FINDINGS_MAX, findingDefect) ??
    listDefect('headers', opinion.headers, HEADERS_MAX, headerDefect) ??
    (opinion.verdict === undefined ? undefined : verdictDefect(opinion.verdict))
  )
}

function listDefect<T>(
  what: string,
  list: readonly T[] | undefined,
  max: number,
  defect: (item: T) => string | undefined,
): string | undefined {
  if (list === undefined) return undefined
  if (!Array.isArray(list)) return `${what} is no array`
  if (list.length > max) return `${what} has ${list.length} items, more than ${max}`
  for (const item of list) {
    const wrong = typeof item === 'object' && item !== null ? defect(item) : 'is no object'
    if (wrong !== undefined) return `an item of ${what} ${wrong}`
  }
  return undefined
}

function findingDefect(finding: Finding): string | undefined {
  if (typeof finding.symbol !== 'string' || !SYMBOL.test(finding.symbol))
    return 'has no symbol of upper-case letters, digits and _'
  if (finding.detail !== undefined && typeof finding.detail !== 'string') return 'has a detail that is no string'
  return undefined
}

function headerDefect(header: HeaderField): string | undefined {
  if (typeof header.name !== 'string' || !HEADER_NAME.test(header.name)) return 'has no proper field name'
  if (RESERVED_HEADER.test(header.name)) return `is '${header.name}', which only the gateway writes`
  // One line of printable ASCII: a value that folds or encodes is the author's to prepare, never to inject (P10).
  if (typeof header.value !== 'string' || !HEADER_VALUE.test(header.value))
    return 'has a value that is no line of printable ASCII'
  return undefined
}

function verdictDefect(verdict: Verdict): string | undefined {
  if (typeof verdict !== 'object' || verdict === null) return 'the verdict is no object'
  if (typeof verdict.reason !== 'string' || verdict.reason === '') return 'the verdict names no reason'
  switch (verdict.kind) {
    case 'trust':
      return undefined
    case 'defer':
      return replyDefect(verdict.reply, 400, 499)
    case 'reject':
      return replyDefect(verdict.reply, 500, 599)
    case 'hangup':
      return replyDefect(verdict.reply, 421, 421)
    default:
      return 'the verdict is of no known kind'
  }
}

function replyDefect(reply: Reply | undefined, from: number, to: number): string | undefined {
  if (reply === undefined) return undefined
  if (typeof reply !== 'object' || reply === null) return 'the reply is no object'
  if (!Number.isInteger(reply.code) || reply.code < from || reply.code > to)
    return `the reply's code is not ${from} to ${to}`
  if (!Array.isArray(reply.lines) || !reply.lines.every((line) => typeof line === 'string'))
    return 'the reply has no lines of text'
  const { enhanced } = reply
  if (enhanced === undefined) return undefined
  const proper =
    Array.isArray(enhanced) && enhanced.length === 2 && enhanced.every((n) => Number.isInteger(n) && n >= 0 && n <= 999)
  return proper ? undefined : 'the enhanced code is not [subject, detail]'
}
