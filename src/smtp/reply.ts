// One SMTP reply as a value, and its bytes.
// Promise: whatever text gets in, what leaves is CRLF-terminated printable ASCII, at most 512 octets a line, with one code on every line,
// and an enhanced code whose class agrees with the basic code because it is derived from it (RFC 2034 section 4).
// Not taken: replies as strings. A string can disagree with itself ("250 5.1.1"); a value cannot.

/** The subject and detail of an enhanced status code (RFC 3463); its class is the first digit of the reply code. */
export type EnhancedDetail = readonly [subject: number, detail: number]

export interface Reply {
  readonly code: number
  readonly enhanced?: EnhancedDetail
  readonly lines: readonly string[]
  /** Close the connection after this reply. */
  readonly close?: true
}

// RFC 5321 4.5.3.1.5: 512 octets a reply line, code and CRLF included.
const LINE_OCTETS = 512
const LINES_MAX = 100

/** Builds a one-line reply with an enhanced code: `reply(550, [7, 1], 'no')` is `550 5.7.1 no`. */
export function reply(code: number, enhanced: EnhancedDetail, text: string): Reply {
  return { code, enhanced, lines: [text] }
}

/** A reply that ends the session: the connection is closed once it is written. */
export function closing(code: number, enhanced: EnhancedDetail, text: string): Reply {
  return { code, enhanced, lines: [text], close: true }
}

/** 2xx and 3xx: the command was taken. */
export function isPositive(r: Reply): boolean {
  return r.code < 400
}

/** The enhanced code as text (`5.7.1`), or undefined where the reply has none. */
export function enhancedCode(r: Reply): string | undefined {
  const level = Math.trunc(r.code / 100)
  // RFC 3463 section 2 knows the classes 2, 4 and 5 only: 354 and 334 have no enhanced code.
  if (r.enhanced === undefined || level === 3) return undefined
  return `${level}.${r.enhanced[0]}.${r.enhanced[1]}`
}

/** The whole reply as it goes over the wire, CRLF included. */
export function replyText(r: Reply): string {
  const enhanced = enhancedCode(r)
  const prefix = enhanced === undefined ? '' : `${enhanced} `
  const lines = r.lines.length === 0 ? [''] : r.lines.slice(0, LINES_MAX)
  let out = ''
  for (let i = 0; i < lines.length; i++) {
    const separator = i === lines.length - 1 ? ' ' : '-'
    const head = `${r.code}${separator}${prefix}`
    out += `${head}${printable(lines[i] ?? '').slice(0, LINE_OCTETS - 2 - head.length)}\r\n`
  }
  return out
}

/** Replaces every octet that is not printable ASCII: a stranger's text in a reply must not start a line of its own (P10). */
export function printable(text: string): string {
  return /^[ -~]*$/.test(text) ? text : text.replace(/[^ -~]/g, '?')
}
