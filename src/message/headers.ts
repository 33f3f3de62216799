// The header of a message, as fields with their places in the bytes (RFC 5322 section 2.2).
// Promise: it never throws, changes nothing, and keeps the raw bytes of every field, so that a message can be sent on as it came.
// Decoding of words and addresses is for those who need it; most mail is only counted and passed on here.

export interface HeaderField {
  /** As written, without the colon. */
  readonly name: string
  /** The raw value behind the colon, folds included, without the last CRLF; Latin-1, so that no octet is lost. */
  readonly value: string
  /** Octets from the start of the message: the field with its CRLF. */
  readonly start: number
  readonly end: number
}

export interface HeaderBlock {
  readonly fields: readonly HeaderField[]
  /** Where the header ends: at the empty line, or at the end of what there is of the message. 0 for a message without a header. */
  readonly end: number
}

const CR = 0x0d
const LF = 0x0a
const SPACE = 0x20
const TAB = 0x09
const NAME_MAX = 1024

// RFC 5322 2.2: printable ASCII except the colon; blanks before the colon are the obsolete syntax that mail still comes with.
const FIELD_NAME = /^([!-9;-~]+)[ \t]*:/

// A mailbox separator that a broken sender left in front.
const MBOX_LINE = /^>?From /

export type FirstLine = 'field' | 'mbox' | 'empty' | 'text'

/** What a message begins with: that decides whether there is a header at all. */
export function firstLine(bytes: Buffer): FirstLine {
  if (bytes.length === 0 || bytes[0] === LF || bytes[0] === CR) return 'empty'
  const lf = bytes.indexOf(LF)
  const text = bytes.toString('latin1', 0, Math.min(lf < 0 ? bytes.length : lf, NAME_MAX))
  if (FIELD_NAME.test(text)) return 'field'
  return MBOX_LINE.test(text) ? 'mbox' : 'text'
}

/**
 * Parses the fields up to the empty line; at most `limit` of them. A line among them that is no field is passed over, as lenient readers do:
 * what they would see must be seen here. A message whose first line is text has no header.
 */
export function parseHeader(bytes: Buffer, limit = Number.POSITIVE_INFINITY): HeaderBlock {
  const fields: HeaderField[] = []
  if (firstLine(bytes) === 'text') return { fields, end: 0 }
  let start = 0
  while (start < bytes.length && fields.length < limit && !isLineEnd(bytes, start)) {
    const end = fieldEnd(bytes, start)
    const text = bytes.toString('latin1', start, end)
    const name = FIELD_NAME.exec(text)
    if (name?.[1] !== undefined) {
      fields.push({ name: name[1], value: text.slice(name[0].length).replace(/\r?\n$/, ''), start, end })
    }
    start = end
  }
  return { fields, end: start }
}

function isLineEnd(bytes: Buffer, at: number): boolean {
  return bytes[at] === LF || (bytes[at] === CR && bytes[at + 1] === LF)
}

// A field goes on over the lines that start with a blank.
function fieldEnd(bytes: Buffer, start: number): number {
  for (let at = start; ; ) {
    const lf = bytes.indexOf(LF, at)
    if (lf < 0) return bytes.length
    const next = bytes[lf + 1]
    if (next !== SPACE && next !== TAB) return lf + 1
    at = lf + 1
  }
}

/** The value on one line, blanks trimmed: for logs and comparisons. */
export function unfolded(value: string): string {
  return value.replace(/\r?\n[ \t]*/g, ' ').trim()
}

/** The first field of that name, or undefined. */
export function firstField(fields: readonly HeaderField[], name: string): HeaderField | undefined {
  const wanted = name.toLowerCase()
  return fields.find((f) => f.name.toLowerCase() === wanted)
}
