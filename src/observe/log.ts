// The log: one line for each session and each transaction, with the same id everywhere; JSON, or readable on a terminal.
// Promise (P10): text from strangers cannot break a line, colour a terminal or grow without bound; what is secret is never given to it.
import pino from 'pino'
import pretty from 'pino-pretty'
import type { EventBus, SessionOutcome, TransactionOutcome } from './events.ts'

export interface LogOptions {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly format: 'auto' | 'json' | 'pretty'
}

export interface Log {
  debug(fields: object, text: string): void
  info(fields: object, text: string): void
  warn(fields: object, text: string): void
  error(fields: object, text: string): void
}

const TEXT_MAX = 1000
const LIST_MAX = 100
const DEPTH_MAX = 5
// A reader that stalls costs lines, not memory.
const BACKLOG_OCTETS = 16 * 1024 * 1024
// Controls, separators of lines, and what turns the direction of text (marks, embeddings, overrides, isolates).
const CONTROLS = /[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g

/** Escapes what could act on a terminal or a log reader, and caps the length. */
export function cleanText(text: string): string {
  const short = text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX)}…` : text
  return short.replace(CONTROLS, (c) => {
    const hex = c.charCodeAt(0).toString(16)
    return hex.length > 2 ? `\\u{${hex}}` : `\\x${hex.padStart(2, '0')}`
  })
}

function cleanValue(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return cleanText(value)
  if (typeof value !== 'object' || value === null) return value
  if (value instanceof Error) return cleanText(value.message)
  if (ArrayBuffer.isView(value)) return `${value.byteLength} octets`
  // A log line is no place for a tree; a cycle would never end.
  if (depth >= DEPTH_MAX) return '…'
  return Array.isArray(value)
    ? value.slice(0, LIST_MAX).map((item) => cleanValue(item, depth + 1))
    : cleanFields(value, depth + 1)
}

function cleanFields(fields: object, depth = 0): Record<string, unknown> {
  const entries = Object.entries(fields).slice(0, LIST_MAX)
  return Object.fromEntries(entries.map(([key, value]) => [cleanText(key), cleanValue(value, depth)]))
}

/** Opens the log on standard error (standard output is for the answers of commands). */
export function openLog(options: LogOptions): Log {
  const readable = options.format === 'pretty' || (options.format === 'auto' && process.stderr.isTTY)
  const stream = readable
    ? pretty({ destination: 2, sync: true, ignore: 'pid,hostname', translateTime: 'SYS:HH:MM:ss.l' })
    : pino.destination({ dest: 2, sync: false, maxLength: BACKLOG_OCTETS })
  return pino(
    {
      level: options.level,
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { log: (fields) => cleanFields(fields), level: (label) => ({ level: label }) },
    },
    stream,
  )
}

/** Writes the lines of sessions and transactions from their events. */
export function logEvents(events: EventBus, log: Log): void {
  events.on('session-ended', (session) => log.info(sessionFields(session), `session end=${session.end}`))
  events.on('login', (login) => {
    if (login.result === 'failed') log.warn(login, 'login failed')
    else log.info(login, `login ${login.result}`)
  })
  events.on('session-refused', (refused) => log.info(refused, 'connection refused'))
  events.on('transaction-ended', (tx) => {
    const text = `transaction outcome=${tx.outcome}`
    if (tx.outcome === 'unknown' || tx.outcome === 'backend-lost') log.warn(transactionFields(tx), text)
    else log.info(transactionFields(tx), text)
  })
  events.on('backend-failed', (failure) => log.warn(failure, 'backend failed'))
  events.on('backend-waiting', (waiting) => log.warn(waiting, 'backend is slow to answer the dot'))
}

function sessionFields(session: SessionOutcome): object {
  const { id, asked, milliseconds, ...rest } = session
  return { session: id, ...rest, milliseconds: Math.round(milliseconds) }
}

function transactionFields(tx: TransactionOutcome): object {
  return {
    id: tx.id,
    session: tx.session,
    listener: tx.listener,
    client: tx.client,
    helo: tx.helo,
    from: tx.from,
    to: tx.recipients.map((r) => r.address),
    refused: tx.recipients.filter((r) => !r.reply.startsWith('2')).map((r) => `${r.address}: ${r.reply}`),
    size: tx.size,
    messageId: tx.messageId,
    outcome: tx.outcome,
    action: tx.action,
    score: tx.score,
    symbols: tx.findings.map((f) => f.symbol),
    reason: tx.reason,
    reply: tx.reply,
    backend: tx.backend,
    milliseconds: Math.round(tx.milliseconds),
  }
}
