// Mailboxes and paths of the envelope (RFC 5321 4.1.2, RFC 6531 3.3).
// Promise: what parses here is rebuilt from its parts without loss, holds no control character, and shows its routing characters, so that
// the relay check decides about the very mailbox that the backend will see (security: "victim%example.org@example.com").
// departs: dots in odd places of an unquoted local part (a..b, a.) are taken, since real mailboxes are named so and no reader disagrees
// about them; a local part may be longer than 64 octets (VERP, SRS) as long as the whole path keeps to its limit.
import { isIP } from 'node:net'
import { domainToASCII } from 'node:url'

export interface Address {
  /** As it goes over the wire: a quoted string keeps its quotes. */
  readonly localPart: string
  /** Lower case, IDNA A-labels; `[192.0.2.1]` for a literal; empty only for the bare `postmaster`. */
  readonly domain: string
  /** It was written with characters beyond ASCII, in the domain too: allowed only under SMTPUTF8 (RFC 6531 3.5). */
  readonly utf8: boolean
  /** The local part could be read as a route by another server: `%`, `!`, or `@` and `\` inside quotes. */
  readonly routing: boolean
}

export type PathError = 'syntax' | 'source-route' | 'too-long' | 'needs-smtputf8'

export type ParsedPath =
  | { readonly kind: 'path'; readonly address: Address | null; readonly rest: string }
  | { readonly kind: 'error'; readonly error: PathError }

// RFC 5321 4.5.3.1.3: 256 octets a path, punctuation included.
const PATH_OCTETS = 256
const LABEL_OCTETS = 63
const DOMAIN_OCTETS = 253

const ATOM = /^[^\x00-\x20\x7f-\x9f()<>[\]:;@\\,"\u2028\u2029]+/u
const QUOTED = /^"(?:[^\x00-\x1f\x7f-\x9f"\\\u2028\u2029]|\\[\x20-\x7e])*"/u
const NON_ASCII = /[^\x00-\x7f]/
// What may be given to domainToASCII, which is made for URLs: it cuts at `/ ? # \`, decodes `%41` and drops tabs.
const NAME = /^[a-z0-9._\u0080-\u{10ffff}-]+$/iu

/** The address as it stands between `<` and `>`. */
export function addressText(address: Address | null): string {
  if (address === null) return ''
  return address.domain === '' ? address.localPart : `${address.localPart}@${address.domain}`
}

/**
 * Parses `<path>` at the start of `text`; `rest` is what follows the `>`. `<>` gives the address `null`.
 * `utf8` says whether the client declared SMTPUTF8. A bare `<postmaster>` is an address with an empty domain (RFC 5321 4.1.1.3).
 */
export function parsePath(text: string, utf8: boolean): ParsedPath {
  if (!text.startsWith('<')) return failed('syntax')
  if (text.startsWith('<>')) return { kind: 'path', address: null, rest: text.slice(2) }
  if (text[1] === '@') return failed('source-route')
  const local = parseLocalPart(text.slice(1))
  if (local === undefined) return failed('syntax')
  const afterLocal = text.slice(1 + local.length)
  if (afterLocal.startsWith('>')) {
    if (local.toLowerCase() !== 'postmaster') return failed('syntax')
    return { kind: 'path', address: makeAddress(local, ''), rest: afterLocal.slice(1) }
  }
  if (!afterLocal.startsWith('@')) return failed('syntax')
  const end = afterLocal.indexOf('>')
  if (end < 0) return failed('syntax')
  const written = afterLocal.slice(1, end)
  if (Buffer.byteLength(local) + Buffer.byteLength(written) + 3 > PATH_OCTETS) return failed('too-long')
  const domain = parseDomain(written)
  if (domain === undefined) return failed('syntax')
  // RFC 6531 3.5: without the SMTPUTF8 parameter an address beyond ASCII is refused, in its domain too.
  const unicode = NON_ASCII.test(local) || NON_ASCII.test(written)
  if (unicode && !utf8) return failed('needs-smtputf8')
  return { kind: 'path', address: makeAddress(local, domain, unicode), rest: afterLocal.slice(end + 1) }
}

function failed(error: PathError): ParsedPath {
  return { kind: 'error', error }
}

// A server behind may fold compatibility characters: the full-width ％ is a % to it.
function makeAddress(localPart: string, domain: string, utf8 = false): Address {
  const routing = /[%!@\\]/.test(utf8 ? localPart.normalize('NFKC') : localPart)
  return { localPart, domain, utf8, routing }
}

function parseLocalPart(text: string): string | undefined {
  return (text.startsWith('"') ? QUOTED : ATOM).exec(text)?.[0]
}

/**
 * The canonical form of a domain or address literal, or undefined where it is neither.
 * Names are mapped by UTS 46 to lower-case A-labels, so that two spellings of one domain compare equal; underscores are tolerated because
 * host names with them do send mail.
 */
export function parseDomain(text: string): string | undefined {
  if (text.startsWith('[')) return parseLiteral(text)
  if (!NAME.test(text)) return undefined
  const ascii = NON_ASCII.test(text) ? domainToASCII(text) : text.toLowerCase()
  if (ascii === '' || ascii.length > DOMAIN_OCTETS || isIP(ascii) !== 0) return undefined
  for (const label of ascii.split('.')) {
    if (label.length > LABEL_OCTETS || !/^[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?$/.test(label)) return undefined
  }
  return ascii
}

/** RFC 5321 4.1.3: `[192.0.2.1]` or `[IPv6:2001:db8::1]`; no other kind is registered. */
export function parseLiteral(text: string): string | undefined {
  const match = /^\[(?:(IPv6):)?([0-9a-f:.]+)\]$/i.exec(text)
  if (match?.[2] === undefined) return undefined
  const wanted = match[1] === undefined ? 4 : 6
  if (isIP(match[2]) !== wanted) return undefined
  return wanted === 4 ? `[${match[2]}]` : `[IPv6:${match[2].toLowerCase()}]`
}

/** The local part without its quoting, in lower case: for comparing with lists, never for sending. */
export function localPartValue(address: Address): string {
  const raw = address.localPart
  const value = raw.startsWith('"') ? raw.slice(1, -1).replace(/\\(.)/g, '$1') : raw
  return value.toLowerCase()
}
