// One command line as a value, or the reply that says what is wrong with it.
// Promise: nothing is guessed. What does not parse is refused with 500 or 501, and what is passed on later is rebuilt from these values.
// departs: blanks after `FROM:` and `TO:` and at the end of a line are tolerated (RFC 5321 4.1.1 lets receivers), since many devices send
// them; missing angle brackets are not.
import { type Address, type PathError, parseLiteral, parsePath } from './address.ts'
import { closing, type Reply, reply } from './reply.ts'

export interface Parameter {
  /** Upper case. */
  readonly keyword: string
  readonly value: string | undefined
}

export type Command =
  | { readonly verb: 'HELO' | 'EHLO'; readonly name: string; readonly wellFormed: boolean }
  | { readonly verb: 'MAIL'; readonly path: Address | null; readonly parameters: readonly Parameter[] }
  | { readonly verb: 'RCPT'; readonly path: Address; readonly parameters: readonly Parameter[] }
  | { readonly verb: 'DATA' | 'RSET' | 'QUIT' | 'STARTTLS' }
  | {
      readonly verb: 'NOOP' | 'HELP' | 'VRFY' | 'EXPN' | 'AUTH' | 'BDAT' | 'XCLIENT' | 'XFORWARD'
      readonly argument: string
    }

export type Verb = Command['verb']

export type ParsedCommand =
  | { readonly kind: 'command'; readonly command: Command }
  /** `verb` is empty where there is none that we know. */
  | { readonly kind: 'error'; readonly verb: Verb | ''; readonly reply: Reply }

// Other protocols that a browser or a confused proxy may be made to speak here, and the lines of a message header: the session is out of
// step, and whatever follows may be somebody's data (cross-protocol attacks).
const FOREIGN_VERB = /^(?:GET|POST|PUT|HEAD|OPTIONS|CONNECT|DELETE|PATCH|TRACE|PROXY|SSH-.*|PRI|USER)$/i
const HEADER_LINE = /^[!-9;-~]+:/
// RFC 5321 4.1.2 Domain; a dot at the end is tolerated.
const HOST_NAME = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*\.?$/i
const LINE_CONTROLS = /[\x00-\x08\x0a-\x1f\x7f-\x9f]/

// ignoreBOM means to keep it: a line that starts with U+FEFF is not the command behind it.
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Parses one line without its CRLF. */
export function parseCommand(bytes: Buffer): ParsedCommand {
  const text = lineText(bytes)
  if (text === undefined || LINE_CONTROLS.test(text)) {
    return failure('', brokenLine(bytes.toString('latin1', 0, 5)))
  }
  // S-009: trailing blanks are tolerated.
  const line = withoutTrailingBlanks(text)
  const space = line.search(/[ \t]/)
  const word = space < 0 ? line : line.slice(0, space)
  const argument = space < 0 ? '' : line.slice(space + 1).replace(/^[ \t]+/, '')
  return parseVerb(word, argument)
}

// A loop, since /[ \t]+$/ takes quadratic time on a line with many blanks in its middle.
function withoutTrailingBlanks(text: string): string {
  let end = text.length
  while (end > 0 && (text[end - 1] === ' ' || text[end - 1] === '\t')) end--
  return text.slice(0, end)
}

/** The reply to a line that is no command at all. Behind a broken BDAT comes a payload of unknown length: close. */
export function brokenLine(start: string): Reply {
  return /^BDAT/i.test(start)
    ? closing(500, [5, 2], 'Broken BDAT, closing')
    : reply(500, [5, 2], 'Line too long, or with control characters or stray line ends')
}

function lineText(bytes: Buffer): string | undefined {
  const text = bytes.toString('latin1')
  if (!/[\x80-\xff]/.test(text)) return text
  try {
    return utf8.decode(bytes)
  } catch {
    return undefined
  }
}

function parseVerb(word: string, argument: string): ParsedCommand {
  const verb = word.toUpperCase()
  switch (verb) {
    case 'HELO':
    case 'EHLO':
      return parseHello(verb, argument)
    case 'MAIL':
      return parseMail(argument)
    case 'RCPT':
      return parseRcpt(argument)
    case 'DATA':
    case 'RSET':
    case 'QUIT':
    case 'STARTTLS':
      if (argument !== '') return failure(verb, reply(501, [5, 4], `${verb} takes no argument`))
      return { kind: 'command', command: { verb } }
    case 'VRFY':
    case 'EXPN':
    case 'XCLIENT':
    case 'XFORWARD':
      if (argument === '') return failure(verb, reply(501, [5, 4], `${verb} needs an argument`))
      return { kind: 'command', command: { verb, argument } }
    case 'NOOP':
    case 'HELP':
    case 'AUTH':
    case 'BDAT':
      return { kind: 'command', command: { verb, argument } }
    default:
      if (FOREIGN_VERB.test(word) || HEADER_LINE.test(word)) {
        return failure('', closing(421, [7, 0], 'This is a mail server, closing'))
      }
      return failure('', reply(500, [5, 1], 'Command not recognized'))
  }
}

function failure(verb: Verb | '', r: Reply): ParsedCommand {
  return { kind: 'error', verb, reply: r }
}

// RFC 5321 4.1.4: a HELO name must not be a reason to refuse mail, so every word is taken; `wellFormed` tells the filters what it is.
function parseHello(verb: 'HELO' | 'EHLO', argument: string): ParsedCommand {
  if (argument === '') return failure(verb, reply(501, [5, 4], `${verb} needs a domain or an address literal`))
  if (/[ \t]/.test(argument) || argument.length > 255) {
    return failure(verb, reply(501, [5, 4], `${verb} takes one domain or address literal`))
  }
  const wellFormed = HOST_NAME.test(argument) || parseLiteral(argument) !== undefined
  return { kind: 'command', command: { verb, name: argument, wellFormed } }
}

function parseMail(argument: string): ParsedCommand {
  const text = afterKeyword(argument, 'FROM:')
  if (text === undefined) return failure('MAIL', reply(501, [5, 4], 'Syntax: MAIL FROM:<address>'))
  // The parameter that allows UTF-8 stands behind the address that needs it; inside a quoted local part it is just a word.
  const lenient = parsePath(text, true)
  const declared = lenient.kind === 'path' && /[ \t]SMTPUTF8(?:[ \t]|$)/i.test(lenient.rest)
  const parsed = parsePath(text, declared)
  if (parsed.kind === 'error') return failure('MAIL', pathReply(parsed.error, 'sender'))
  // RFC 5321 4.1.1.3: only a recipient may be postmaster without a domain.
  if (parsed.address?.domain === '') return failure('MAIL', pathReply('syntax', 'sender'))
  const parameters = parseParameters(parsed.rest)
  if (parameters === undefined) return failure('MAIL', reply(501, [5, 4], 'Bad parameter syntax'))
  return { kind: 'command', command: { verb: 'MAIL', path: parsed.address, parameters } }
}

function parseRcpt(argument: string): ParsedCommand {
  const text = afterKeyword(argument, 'TO:')
  if (text === undefined) return failure('RCPT', reply(501, [5, 4], 'Syntax: RCPT TO:<address>'))
  // Whether UTF-8 was declared is known to the transaction: the session checks it there.
  const parsed = parsePath(text, true)
  if (parsed.kind === 'error') return failure('RCPT', pathReply(parsed.error, 'recipient'))
  if (parsed.address === null) return failure('RCPT', reply(501, [1, 3], 'A recipient cannot be empty'))
  const parameters = parseParameters(parsed.rest)
  if (parameters === undefined) return failure('RCPT', reply(501, [5, 4], 'Bad parameter syntax'))
  return { kind: 'command', command: { verb: 'RCPT', path: parsed.address, parameters } }
}

function afterKeyword(argument: string, keyword: string): string | undefined {
  if (argument.slice(0, keyword.length).toUpperCase() !== keyword) return undefined
  return argument.slice(keyword.length).replace(/^[ \t]+/, '')
}

function pathReply(error: PathError, of: 'sender' | 'recipient'): Reply {
  switch (error) {
    case 'syntax':
    case 'too-long':
      return reply(
        501,
        of === 'sender' ? [1, 7] : [1, 3],
        `Bad ${of} address ${error === 'syntax' ? 'syntax' : 'length'}`,
      )
    case 'source-route':
      // RFC 5321 appendix C lets us ignore routes; refusing them leaves the backend nothing to misread.
      return of === 'sender' ? reply(501, [1, 7], 'No source routes') : reply(550, [7, 1], 'No source routes')
    case 'needs-smtputf8':
      // RFC 6531 3.5: 550 to MAIL, 553 to RCPT.
      return reply(of === 'sender' ? 550 : 553, [6, 7], `The ${of} address needs SMTPUTF8`)
  }
}

// RFC 5321 4.1.2 esmtp-param; values may be UTF-8 under SMTPUTF8 (RFC 6531 3.3).
function parseParameters(rest: string): readonly Parameter[] | undefined {
  if (rest === '') return []
  if (!/^[ \t]/.test(rest)) return undefined
  const parameters: Parameter[] = []
  for (const word of rest.replace(/^[ \t]+/, '').split(/[ \t]+/)) {
    const match = /^([a-z0-9][a-z0-9-]*)(?:=([^\x00-\x20=]+))?$/i.exec(word)
    if (match?.[1] === undefined) return undefined
    parameters.push({ keyword: match[1].toUpperCase(), value: match[2] })
  }
  return parameters
}
