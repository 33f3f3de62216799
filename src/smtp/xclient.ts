// XCLIENT and XFORWARD (Postfix's XCLIENT_README and XFORWARD_README): attributes of the client, xtext-encoded.
// Promise: as a server, decoded values are checked like any stranger's (a name must be a host name, an address an address); as a client, every
// attribute is encoded, and one that is missing is said to be so, because attributes survive on a connection that is used again.
import { isIP } from 'node:net'
import { canonicalAddress } from '../net/ip.ts'
import { parseLiteral } from './address.ts'

export interface ClientAttributes {
  readonly name?: string | undefined
  readonly addr?: string | undefined
  readonly port?: number | undefined
  readonly proto?: 'SMTP' | 'ESMTP' | undefined
  readonly helo?: string | undefined
  readonly login?: string | undefined
}

export type ParsedAttributes =
  | { readonly kind: 'ok'; readonly attributes: ClientAttributes }
  | { readonly kind: 'error'; readonly why: string }

/** What we take, in the order of our EHLO keyword. */
export const XCLIENT_ATTRIBUTES = ['NAME', 'ADDR', 'PORT', 'PROTO', 'HELO', 'LOGIN'] as const
export const XFORWARD_ATTRIBUTES = ['NAME', 'ADDR', 'PORT', 'PROTO', 'HELO', 'IDENT', 'SOURCE'] as const

const UNAVAILABLE = new Set(['[UNAVAILABLE]', '[TEMPUNAVAIL]'])
const VALUE_OCTETS = 255

// Which attributes are about the client.
const FIELDS = new Map<string, keyof ClientAttributes>([
  ['NAME', 'name'],
  ['ADDR', 'addr'],
  ['PORT', 'port'],
  ['PROTO', 'proto'],
  ['HELO', 'helo'],
  ['LOGIN', 'login'],
])

/** Parses `NAME=value ADDR=value …`. What is [UNAVAILABLE] is there as undefined: it takes back what was told before. */
export function parseAttributes(argument: string, known: readonly string[]): ParsedAttributes {
  const values = new Map<string, string | undefined>()
  for (const word of argument.split(/[ \t]+/)) {
    const match = /^([A-Za-z]+)=(\S+)$/.exec(word)
    const key = match?.[1]?.toUpperCase() ?? ''
    if (match === null || !known.includes(key)) return { kind: 'error', why: 'unknown attribute' }
    if (values.has(key)) return { kind: 'error', why: `${key} given twice` }
    const value = fromXtext(match[2] ?? '')
    if (value === undefined) return { kind: 'error', why: `bad encoding of ${key}` }
    values.set(key, UNAVAILABLE.has(value.toUpperCase()) ? undefined : value)
  }
  return checked(values)
}

function checked(values: ReadonlyMap<string, string | undefined>): ParsedAttributes {
  const out: { -readonly [K in keyof ClientAttributes]: ClientAttributes[K] } = {}
  for (const [key, value] of values) {
    const field = FIELDS.get(key)
    if (value === undefined) {
      if (field !== undefined) out[field] = undefined
      continue
    }
    switch (key) {
      case 'NAME':
        if (!isHostName(value)) return { kind: 'error', why: 'bad NAME' }
        out.name = value
        break
      case 'ADDR':
        out.addr = canonicalAddress(value.replace(/^IPv6:/i, ''))
        if (out.addr === undefined) return { kind: 'error', why: 'bad ADDR' }
        break
      case 'PORT':
        if (!/^\d{1,5}$/.test(value) || Number(value) > 65535) return { kind: 'error', why: 'bad PORT' }
        out.port = Number(value)
        break
      case 'PROTO':
        if (!/^E?SMTP$/i.test(value)) return { kind: 'error', why: 'bad PROTO' }
        out.proto = value.toUpperCase() === 'SMTP' ? 'SMTP' : 'ESMTP'
        break
      case 'HELO':
        out.helo = value
        break
      case 'LOGIN':
        out.login = value
        break
      default: // IDENT and SOURCE are about the sender's queue: read, and of no use here
    }
  }
  return { kind: 'ok', attributes: out }
}

// RFC 3461 section 4; control characters are refused after decoding, since they could end a line later.
function fromXtext(text: string): string | undefined {
  if (text.length > VALUE_OCTETS * 3 || !/^(?:[!-*,-<>-~]|\+[0-9A-Fa-f]{2})*$/.test(text)) return undefined
  const decoded = text.replace(/\+([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
  return decoded.length > VALUE_OCTETS || !/^[ -~]*$/.test(decoded) ? undefined : decoded
}

/** Encodes text for XCLIENT: everything but printable ASCII without `+` and `=` becomes `+HH`; over-long text is cut. */
export function toXtext(text: string): string {
  return Buffer.from(text, 'utf8')
    .subarray(0, VALUE_OCTETS)
    .toString('latin1')
    .replace(/[^!-*,-<>-~]/g, (c) => `+${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`)
}

function isHostName(text: string): boolean {
  return text.length <= 253 && /^[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?$/i.test(text)
}

/**
 * The argument of XCLIENT for a client, with every attribute that the server announced; ADDR last, since some servers act on it at once.
 * A HELO or PTR name that is no name is not passed on: names from DNS are hostile (CVE-2026-28753).
 */
export function xclientArgument(client: ClientAttributes, announced: ReadonlySet<string>): string {
  const helo =
    client.helo !== undefined && (isHostName(client.helo) || parseLiteral(client.helo) !== undefined)
      ? client.helo
      : undefined
  const values: readonly (readonly [string, string | undefined])[] = [
    ['NAME', client.name !== undefined && isHostName(client.name) ? client.name : undefined],
    ['PORT', client.port === undefined ? undefined : String(client.port)],
    ['PROTO', client.proto],
    ['HELO', helo],
    ['LOGIN', client.login],
    ['ADDR', client.addr === undefined ? undefined : isIP(client.addr) === 6 ? `IPV6:${client.addr}` : client.addr],
  ]
  // An empty value is a syntax error to Postfix.
  return values
    .filter(([key]) => announced.has(key))
    .map(([key, value = '']) => `${key}=${value === '' ? '[UNAVAILABLE]' : toXtext(value)}`)
    .join(' ')
}
