// EHLO keywords: what a backend announced, what we offer, and the parameters of MAIL and RCPT that hang on them.
// Promise: a parameter is taken only if its keyword was announced (555 5.5.4 else, RFC 5321 4.1.1.11), only with a value that its RFC allows
// (501 5.5.4 else), and is rebuilt from the parsed value on the way to the backend.
import type { Parameter } from './command.ts'
import { type Reply, reply } from './reply.ts'
import { relayableMechanisms } from './sasl.ts'

/** What a server announced in its answer to EHLO, as far as it matters here. */
export interface EhloProfile {
  /** SIZE in octets; `Infinity` where it announced none or 0 (RFC 1870 section 4). */
  readonly size: number
  readonly pipelining: boolean
  readonly eightBitMime: boolean
  readonly smtpUtf8: boolean
  readonly dsn: boolean
  readonly startTls: boolean
  /** Mechanisms of AUTH that it announced and that can be handed on. */
  readonly auth: readonly string[]
  /** The attributes that XCLIENT takes; empty where it is not offered to us. */
  readonly xclient: ReadonlySet<string>
}

/** What a session may use, as announced in our own EHLO. */
export interface Offer {
  readonly size: number
  readonly eightBitMime: boolean
  readonly smtpUtf8: boolean
  readonly dsn: boolean
  /** Mechanisms of AUTH; offered on submission listeners, inside TLS only. */
  readonly auth: readonly string[]
}

export interface MailParameters {
  readonly size?: number
  readonly body?: '7BIT' | '8BITMIME'
  readonly smtpUtf8?: true
  readonly ret?: 'FULL' | 'HDRS'
  readonly envid?: string
}

export interface RcptParameters {
  /** Comma-separated, upper case, as in RFC 3461 4.1. */
  readonly notify?: string
  /** `addr-type;xtext`, as it came. */
  readonly orcpt?: string
}

export type Parsed<T> = { readonly kind: 'ok'; readonly value: T } | { readonly kind: 'error'; readonly reply: Reply }

/** Reads the lines of a positive EHLO reply; the first line is the greeting. Unknown keywords are nothing to us. */
export function parseEhlo(lines: readonly string[]): EhloProfile {
  const keywords = new Map<string, string>()
  for (const line of lines.slice(1)) {
    const [keyword = '', ...rest] = line.trim().split(/\s+/)
    keywords.set(keyword.toUpperCase(), rest.join(' '))
  }
  const size = Number(keywords.get('SIZE') ?? '0')
  return {
    size: Number.isSafeInteger(size) && size > 0 ? size : Number.POSITIVE_INFINITY,
    pipelining: keywords.has('PIPELINING'),
    eightBitMime: keywords.has('8BITMIME'),
    smtpUtf8: keywords.has('SMTPUTF8'),
    dsn: keywords.has('DSN'),
    startTls: keywords.has('STARTTLS'),
    auth: relayableMechanisms((keywords.get('AUTH') ?? '').split(' ').filter(Boolean)),
    xclient: new Set((keywords.get('XCLIENT') ?? '').toUpperCase().split(' ').filter(Boolean)),
  }
}

/** Nothing that depends on a backend. */
export const NO_OFFER: Offer = {
  size: Number.POSITIVE_INFINITY,
  eightBitMime: false,
  smtpUtf8: false,
  dsn: false,
  auth: [],
}

/** What may be announced to clients when the message can end up at any of these backends. */
export function commonOffer(profiles: readonly EhloProfile[], ownSize: number): Offer {
  const all = (has: (profile: EhloProfile) => boolean) => profiles.length > 0 && profiles.every(has)
  return {
    size: Math.min(ownSize, ...profiles.map((p) => p.size)),
    eightBitMime: all((p) => p.eightBitMime),
    // RFC 6531 3.1: SMTPUTF8 needs 8BITMIME.
    smtpUtf8: all((p) => p.smtpUtf8 && p.eightBitMime),
    dsn: all((p) => p.dsn),
    auth: profiles[0]?.auth.filter((mechanism) => profiles.every((p) => p.auth.includes(mechanism))) ?? [],
  }
}

/** The lines of our answer to EHLO behind the greeting. */
export function offerLines(offer: Offer): string[] {
  const lines = ['PIPELINING', `SIZE ${offer.size}`]
  if (offer.eightBitMime) lines.push('8BITMIME')
  lines.push('ENHANCEDSTATUSCODES')
  if (offer.smtpUtf8) lines.push('SMTPUTF8')
  if (offer.dsn) lines.push('DSN')
  if (offer.auth.length > 0) lines.push(`AUTH ${offer.auth.join(' ')}`)
  return lines
}

type Values = Map<string, string | undefined>
type Rule = { readonly offered: (offer: Offer) => boolean; readonly valid: (value: string | undefined) => boolean }

const MAIL_RULES = new Map<string, Rule>([
  ['SIZE', { offered: () => true, valid: (v) => v !== undefined && /^\d{1,20}$/.test(v) }], // RFC 1870 section 3
  ['BODY', { offered: (o) => o.eightBitMime, valid: (v) => v !== undefined && /^(?:7BIT|8BITMIME)$/i.test(v) }], // RFC 6152
  ['SMTPUTF8', { offered: (o) => o.smtpUtf8, valid: (v) => v === undefined }], // RFC 6531 3.4
  ['RET', { offered: (o) => o.dsn, valid: (v) => v !== undefined && /^(?:FULL|HDRS)$/i.test(v) }], // RFC 3461 4.3
  ['ENVID', { offered: (o) => o.dsn, valid: (v) => v !== undefined && v.length <= 100 && isXtext(v) }], // RFC 3461 4.4
])

// RFC 4954 5: whoever offers AUTH takes this parameter. It is the client's word about somebody else, and goes no further.
MAIL_RULES.set('AUTH', {
  offered: (o) => o.auth.length > 0,
  valid: (v) => v !== undefined && (v === '<>' || isXtext(v)),
})

const RCPT_RULES = new Map<string, Rule>([
  ['NOTIFY', { offered: (o) => o.dsn, valid: isNotify }],
  ['ORCPT', { offered: (o) => o.dsn, valid: isOrcpt }],
])

/** Checks the parameters of MAIL against what was offered. */
export function parseMailParameters(parameters: readonly Parameter[], offer: Offer): Parsed<MailParameters> {
  const checked = check(parameters, MAIL_RULES, offer)
  if (checked.kind === 'error') return checked
  const values = checked.value
  const out: { -readonly [K in keyof MailParameters]: MailParameters[K] } = {}
  const size = values.get('SIZE')
  if (size !== undefined) out.size = Number(size)
  const body = values.get('BODY')
  if (body !== undefined) out.body = body.toUpperCase() === '7BIT' ? '7BIT' : '8BITMIME'
  if (values.has('SMTPUTF8')) out.smtpUtf8 = true
  const ret = values.get('RET')
  if (ret !== undefined) out.ret = ret.toUpperCase() === 'FULL' ? 'FULL' : 'HDRS'
  const envid = values.get('ENVID')
  if (envid !== undefined) out.envid = envid
  return { kind: 'ok', value: out }
}

/** Checks the parameters of RCPT against what was offered. */
export function parseRcptParameters(parameters: readonly Parameter[], offer: Offer): Parsed<RcptParameters> {
  const checked = check(parameters, RCPT_RULES, offer)
  if (checked.kind === 'error') return checked
  const notify = checked.value.get('NOTIFY')?.toUpperCase()
  const orcpt = checked.value.get('ORCPT')
  return {
    kind: 'ok',
    value: { ...(notify === undefined ? {} : { notify }), ...(orcpt === undefined ? {} : { orcpt }) },
  }
}

function check(parameters: readonly Parameter[], rules: ReadonlyMap<string, Rule>, offer: Offer): Parsed<Values> {
  const values: Values = new Map()
  for (const { keyword, value } of parameters) {
    const rule = rules.get(keyword)
    if (rule === undefined || !rule.offered(offer)) {
      return { kind: 'error', reply: reply(555, [5, 4], 'Parameter not recognized') }
    }
    if (values.has(keyword)) return { kind: 'error', reply: reply(501, [5, 4], `${keyword} given twice`) }
    if (!rule.valid(value)) return { kind: 'error', reply: reply(501, [5, 4], `Bad value of ${keyword}`) }
    values.set(keyword, value)
  }
  return { kind: 'ok', value: values }
}

/** The parameters of MAIL for the backend, with a leading blank each. */
export function mailParametersText(p: MailParameters): string {
  let out = ''
  if (p.size !== undefined) out += ` SIZE=${p.size}`
  if (p.body !== undefined) out += ` BODY=${p.body}`
  if (p.smtpUtf8) out += ' SMTPUTF8'
  if (p.ret !== undefined) out += ` RET=${p.ret}`
  if (p.envid !== undefined) out += ` ENVID=${p.envid}`
  return out
}

/** The parameters of RCPT for the backend, with a leading blank each. */
export function rcptParametersText(p: RcptParameters): string {
  return `${p.notify === undefined ? '' : ` NOTIFY=${p.notify}`}${p.orcpt === undefined ? '' : ` ORCPT=${p.orcpt}`}`
}

/** Whether a backend can carry what these parameters ask of it. */
export function carries(profile: EhloProfile, p: MailParameters, dsnRecipients: boolean): boolean {
  if (p.body === '8BITMIME' && !profile.eightBitMime) return false
  if (p.smtpUtf8 && !profile.smtpUtf8) return false
  return profile.dsn || (p.ret === undefined && p.envid === undefined && !dsnRecipients)
}

// RFC 3461 section 4: xtext is printable ASCII without "+" and "=", which are written as +HH. What is encoded must be printable too (4.2,
// 4.4): +0D+0A would become a line of its own in somebody's DSN.
function isXtext(text: string): boolean {
  return /^(?:[!-*,-<>-~]|\+(?:[2-6][0-9A-F]|7[0-9A-E]))+$/.test(text)
}

function isNotify(value: string | undefined): boolean {
  if (value === undefined) return false
  if (/^NEVER$/i.test(value)) return true
  const words = value.toUpperCase().split(',')
  return new Set(words).size === words.length && words.every((w) => w === 'SUCCESS' || w === 'FAILURE' || w === 'DELAY')
}

// RFC 3461 4.2, and RFC 6533 for utf-8 addresses, whose xtext may hold UTF-8.
function isOrcpt(value: string | undefined): boolean {
  if (value === undefined || value.length > 500) return false
  const match = /^([a-z0-9-]+);(.+)$/i.exec(value)
  if (match?.[1] === undefined || match[2] === undefined) return false
  return match[1].toLowerCase() === 'utf-8' ? /^[!-*,-<>-~\u0080-\uffff]+$/.test(match[2]) : isXtext(match[2])
}
