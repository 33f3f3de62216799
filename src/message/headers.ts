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
  /** Where the fields end: at the empty line, at the first line that is no field, or at the end of the message. */
  readonly end: number
}

const LF = 0x0a
const SPACE = 0x20
const TAB = 0x09

// RFC 5322 2.2: printable ASCII except the colon; blanks before the colon are the obsolete syntax that mail still comes with.
const FIELD_NAME = /^([!-9;-~]+)[ \t]*:/

/** Parses the fields at the start of `bytes`. At most `limit` fields are taken. */
export function parseHeader(bytes: Buffer, limit = Number.POSITIVE_INFINITY): HeaderBlock {
  const fields: HeaderField[] = []
  let start = 0
  while (start < bytes.length && fields.length < limit) {
    const end = fieldEnd(bytes, start)
    const text = bytes.toString('latin1', start, end)
    const match = FIELD_NAME.exec(text)
    if (match?.[1] === undefined) break
    fields.push({ name: match[1], value: text.slice(match[0].length).replace(/\r?\n$/, ''), start, end })
    start = end
  }
  return { fields, end: start }
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
