// `check:` of a case, looked at after the dialogue. Each question gets an answer of its own, so that a report names all that is wrong.
// Patterns on what the backend got are searched in the octets read as latin1, as the case file's `\xe9` has it, and in the octets read as
// UTF-8, as its `\u00e9` has it: a `raw` must be found in one of them, a `raw_not` in neither.
import type { BackendRecord } from './backend-record.ts'
import { show } from './case-file.ts'
import type { Checks, Counted } from './format.ts'
import { dkimVerifies } from './generate.ts'

export interface Observed {
  readonly record: BackendRecord
  readonly log: string
  readonly alive: boolean
  readonly memoryGrowth: number | undefined
}

/** All complaints; empty where everything is as the case wants it. */
export async function runChecks(check: Checks, observed: Observed): Promise<string[]> {
  return [
    ...backendCounts(check, observed.record),
    ...backendOctets(check, observed.record),
    ...backendContents(check, observed.record),
    ...(await signatures(check, observed.record)),
    ...logChecks(check, observed.log),
    ...gatewayChecks(check, observed),
  ]
}

function backendCounts({ backend = {} }: Checks, record: BackendRecord): string[] {
  const complaints: string[] = []
  counted(complaints, 'backend.messages', backend.messages, record.messages.length)
  counted(complaints, 'backend.transactions', backend.transactions, record.transactions.length)
  if (backend.aborted !== undefined && backend.aborted !== record.aborted > 0) {
    complaints.push(`backend.aborted: expected ${backend.aborted}, got ${record.aborted} aborted transactions`)
  }
  if (backend.rcpts !== undefined) {
    const sources = record.messages.length > 0 ? record.messages : record.transactions
    const got = sources.map((one) => one.recipients.map((address) => utf8(address)))
    if (JSON.stringify(got) !== JSON.stringify(backend.rcpts)) {
      complaints.push(`backend.rcpts: expected ${JSON.stringify(backend.rcpts)}, got ${JSON.stringify(got)}`)
    }
  }
  for (const address of backend.mail_from_not ?? []) {
    const named = record.mailFrom.some((from) => utf8(from).toLowerCase().includes(address.toLowerCase()))
    if (named) complaints.push(`backend.mail_from_not: the gateway sent MAIL FROM:<${address}>`)
  }
  return complaints
}

function counted(complaints: string[], name: string, expected: Counted | undefined, got: number): void {
  if (expected === undefined) return
  const { min = 0, max = Number.POSITIVE_INFINITY } =
    typeof expected === 'number' ? { min: expected, max: expected } : expected
  if (got < min || got > max) complaints.push(`${name}: expected ${JSON.stringify(expected)}, got ${got}`)
}

function backendOctets({ backend = {} }: Checks, record: BackendRecord): string[] {
  if (backend.raw === undefined && backend.raw_not === undefined) return []
  const { raw } = record
  return [
    ...(backend.raw ?? [])
      .filter((re) => !found(re, raw))
      .map((re) => `backend.raw: ${re} was not sent to the backend`),
    ...(backend.raw_not ?? [])
      .filter((re) => found(re, raw))
      .map((re) => `backend.raw_not: ${re} was sent to the backend`),
  ]
}

function backendContents({ backend = {} }: Checks, { messages }: BackendRecord): string[] {
  const contents = messages.map((message) => message.content)
  const complaints: string[] = []
  for (const expected of backend.content ?? []) {
    if (contents.some((content) => isExactly(content, Buffer.from(expected, 'utf8')))) continue
    const got = contents.map((content) => `"${show(content.toString('latin1'), 400)}"`)
    complaints.push(`backend.content: expected "${show(expected, 400)}", got ${got.join(' and ') || 'no message'}`)
  }
  for (const re of backend.content_re ?? []) {
    if (!contents.some((content) => found(re, content))) complaints.push(`backend.content_re: no message with ${re}`)
  }
  for (const re of backend.content_not ?? []) {
    if (contents.some((content) => found(re, content))) complaints.push(`backend.content_not: a message with ${re}`)
  }
  return complaints
}

// What the gateway may put on top (names of section 7 of the design); anything else in front of the content is a change of the message.
const OWN_FIELDS =
  /^(?:(?:Received|Received-SPF|Return-Path|Authentication-Results|ARC-[A-Za-z-]+|X-Spam-[A-Za-z-]+|X-Postern-[A-Za-z-]+):[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*)*$/i

/** The message is the expected content with nothing but whole header fields of the gateway in front. */
export function isExactly(message: Buffer, content: Buffer): boolean {
  const above = message.length - content.length
  if (above < 0 || !message.subarray(above).equals(content)) return false
  return OWN_FIELDS.test(message.toString('latin1', 0, above))
}

async function signatures({ backend = {} }: Checks, { messages }: BackendRecord): Promise<string[]> {
  if (backend.dkim_verifies === undefined) return []
  const results = await Promise.all(messages.map((message) => dkimVerifies(message.content)))
  const all = results.length > 0 && results.every((good) => good)
  return all === backend.dkim_verifies ? [] : [`backend.dkim_verifies: expected ${backend.dkim_verifies}, got ${all}`]
}

function logChecks({ log = {} }: Checks, text: string): string[] {
  const lines = text.split('\n').filter((line) => line !== '')
  const single = log.single_line
  return [
    ...(log.re ?? []).filter((re) => !re.test(text)).map((re) => `log.re: the log has no ${re}`),
    ...(log.not ?? []).filter((re) => re.test(text)).map((re) => `log.not: the log has ${re}`),
    ...(single === true ? lines.filter((line) => !isRecord(line)).slice(0, 3) : []).map(
      (line) => `log.single_line: not a record of its own: "${show(line)}"`,
    ),
    ...(single instanceof RegExp && !lines.some((line) => single.test(line))
      ? [`log.single_line: no line with ${single}`]
      : []),
  ]
}

/** With `format: json` each line of the log is one object: text from outside has begun no line of its own. */
function isRecord(line: string): boolean {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null
  } catch {
    return false
  }
}

function gatewayChecks({ proxy = {} }: Checks, { alive, memoryGrowth }: Observed): string[] {
  const complaints: string[] = []
  if (proxy.alive !== undefined && proxy.alive !== alive) {
    complaints.push(`proxy.alive: expected ${proxy.alive}, got ${alive}`)
  }
  const most = proxy.rss_growth_mb_max
  if (most !== undefined && memoryGrowth === undefined) {
    complaints.push('proxy.rss_growth_mb_max: the memory of the gateway cannot be read here')
  } else if (most !== undefined && (memoryGrowth ?? 0) > most) {
    complaints.push(`proxy.rss_growth_mb_max: ${memoryGrowth?.toFixed(1)} MiB, ${most} are allowed`)
  }
  return complaints
}

function found(pattern: RegExp, octets: Buffer): boolean {
  return pattern.test(octets.toString('latin1')) || pattern.test(octets.toString('utf8'))
}

/** Addresses are kept as latin1 of their octets. */
function utf8(latin1: string): string {
  return Buffer.from(latin1, 'latin1').toString('utf8')
}
