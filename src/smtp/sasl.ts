// AUTH (RFC 4954) as far as a relay of it needs to look: the line, the mechanisms that can be handed on, the octets that may pass.
// Promise: what passes between client and backend is base64 and nothing else, so nothing can be smuggled into the exchange; nothing here is
// ever logged.

export type AuthCommand =
  | { readonly kind: 'ok'; readonly mechanism: string; readonly initial: string | undefined }
  | { readonly kind: 'error' }

// Mechanisms whose messages can be handed on by somebody in between. Not: -PLUS variants (they bind to our TLS channel, not to the client's),
// GSSAPI and NTLM (bound to host names or connections), CRAM-MD5 and DIGEST-MD5 (obsolete).
const RELAYABLE = new Set(['PLAIN', 'LOGIN', 'SCRAM-SHA-1', 'SCRAM-SHA-256', 'SCRAM-SHA-512', 'XOAUTH2', 'OAUTHBEARER'])

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

/** Octets of a line in the exchange, CRLF included (RFC 4954 section 4). */
export const SASL_LINE = 12_288

/** Of the mechanisms that a backend announced, those that we can offer. */
export function relayableMechanisms(announced: Iterable<string>): string[] {
  return [...announced].map((name) => name.toUpperCase()).filter((name) => RELAYABLE.has(name))
}

/** Parses the argument of AUTH: a mechanism and perhaps an initial response (`=` is the empty one). */
export function parseAuth(argument: string): AuthCommand {
  const match = /^([A-Za-z0-9_-]{1,20})(?: +(\S+))?$/.exec(argument)
  if (match?.[1] === undefined) return { kind: 'error' }
  const initial = match[2]
  if (initial !== undefined && initial !== '=' && !isBase64(initial)) return { kind: 'error' }
  return { kind: 'ok', mechanism: match[1].toUpperCase(), initial }
}

export function isBase64(text: string): boolean {
  return BASE64.test(text)
}

/**
 * The account that an exchange is about, for counting failures: the authentication identity of PLAIN (RFC 4616) or the first answer of LOGIN.
 * Undefined where the mechanism does not show it.
 */
export function accountOf(mechanism: string, answers: readonly string[]): string | undefined {
  const first = Buffer.from(answers[0] ?? '', 'base64').toString('utf8')
  const account = mechanism === 'PLAIN' ? first.split('\0')[1] : mechanism === 'LOGIN' ? first : undefined
  return account === undefined || account === '' ? undefined : account.slice(0, 255).toLowerCase()
}
