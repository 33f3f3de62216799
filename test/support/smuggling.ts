// What smuggling needs: the sequences that made servers disagree, generators that mix them with envelope commands, and reference servers
// that read a client's octets each in its own way. Whatever a gateway writes to its backend, all of them must see the same in it.
// The reference servers are dumb on purpose: they work on a whole text, take every command, and share no code with src.
import assert from 'node:assert/strict'
import fc from 'fast-check'

/** A way of reading lines that some server in the world has. */
export interface Dialect {
  readonly name: string
  readonly lineEnd: RegExp
  readonly dropsNul: boolean
}

export const STRICT: Dialect = { name: 'strict', lineEnd: /\r\n/g, dropsNul: false }
export const LF_LENIENT: Dialect = { name: 'LF-lenient', lineEnd: /\r?\n/g, dropsNul: false }
export const CR_LENIENT: Dialect = { name: 'CR-lenient', lineEnd: /\r\n|\r|\n/g, dropsNul: false }
/** Not among the three of the promise, but there are servers to which a NUL is nothing. */
export const NUL_BLIND: Dialect = { name: 'CR-lenient and blind to NUL', lineEnd: /\r\n|\r|\n/g, dropsNul: true }
export const DIALECTS: readonly Dialect[] = [STRICT, LF_LENIENT, CR_LENIENT, NUL_BLIND]

export interface SeenMessage {
  readonly mail: string
  readonly rcpts: readonly string[]
  /** Dots removed, every line end CRLF. */
  readonly content: string
}

export interface Seen {
  readonly commands: readonly string[]
  readonly messages: readonly SeenMessage[]
  /** What stands behind the last complete line or, inside a message, behind DATA. */
  readonly rest: string
}

/** What a server of this dialect sees in the octets of a client that waits for no reply. */
export function readSession(bytes: Buffer, dialect: Dialect): Seen {
  const raw = bytes.toString('latin1')
  const text = dialect.dropsNul ? raw.replaceAll('\0', '') : raw
  const commands: string[] = []
  const messages: SeenMessage[] = []
  let mail = ''
  let rcpts: string[] = []
  let from = 0
  for (let line = lineAt(text, from, dialect); line !== undefined; line = lineAt(text, from, dialect)) {
    commands.push(line.text)
    from = line.next
    const verb = line.text.toUpperCase()
    if (verb.startsWith('MAIL FROM:')) mail = line.text.slice(10)
    else if (verb.startsWith('RCPT TO:')) rcpts.push(line.text.slice(8))
    else if (verb === 'RSET' || verb.startsWith('EHLO ') || verb.startsWith('HELO ')) [mail, rcpts] = ['', []]
    else if (verb === 'DATA' && mail !== '' && rcpts.length > 0) {
      const data = readData(text, from, dialect)
      if (data === undefined) break
      messages.push({ mail, rcpts, content: data.content })
      from = data.next
      ;[mail, rcpts] = ['', []]
    }
  }
  return { commands, messages, rest: text.slice(from) }
}

/** The message that starts at `from`, or undefined where this dialect sees no end of it. */
export function readData(text: string, from: number, dialect: Dialect): { content: string; next: number } | undefined {
  let content = ''
  let at = from
  for (let line = lineAt(text, at, dialect); line !== undefined; line = lineAt(text, at, dialect)) {
    at = line.next
    if (line.text === '.') return { content, next: at }
    content += `${line.text.startsWith('.') ? line.text.slice(1) : line.text}\r\n`
  }
  return undefined
}

function lineAt(text: string, from: number, dialect: Dialect): { text: string; next: number } | undefined {
  dialect.lineEnd.lastIndex = from
  const end = dialect.lineEnd.exec(text)
  return end === null ? undefined : { text: text.slice(from, end.index), next: end.index + end[0].length }
}

/** Asserts that all dialects see the same in these octets, and gives what they see. */
export function assertOneReading(bytes: Buffer): Seen {
  const strict = readSession(bytes, STRICT)
  for (const dialect of DIALECTS) assert.deepEqual(readSession(bytes, dialect), strict, dialect.name)
  return strict
}

/** Whether some dialect sees another thing than the strict one: then the octets could smuggle. */
export function isAmbiguous(bytes: Buffer): boolean {
  const strict = JSON.stringify(readSession(bytes, STRICT))
  return DIALECTS.some((dialect) => JSON.stringify(readSession(bytes, dialect)) !== strict)
}

/** The sequences of the public scanners, those found later, and our own: none of them is an end of data. */
export const SEQUENCES: ReadonlyMap<string, string> = new Map([
  ['LF.LF', '\n.\n'],
  ['LF.CR', '\n.\r'],
  ['CR.LF', '\r.\n'],
  ['CR.CR', '\r.\r'],
  ['LF.CRLF', '\n.\r\n'],
  ['CR.CRLF', '\r.\r\n'],
  ['CRLF NUL.CRLF', '\r\n\0.\r\n'],
  ['CRLF.CRCRLF', '\r\n.\r\r\n'],
  ['CRCRLF.CRCRLF', '\r\r\n.\r\r\n'],
  ['CRLF.LF', '\r\n.\n'],
  ['CRLF.CR', '\r\n.\r'],
  ['CRLF.NUL CRLF', '\r\n.\0\r\n'],
  ['LF..CRLF', '\n..\r\n'],
  ['CRLF..LF', '\r\n..\n'],
])

export const ENVELOPE = 'MAIL FROM:<sender@example.net>\r\nRCPT TO:<user@example.com>\r\nDATA\r\n'

/** A second message, with its end of data. */
export const EVIL =
  'MAIL FROM:<evil@example.net>\r\nRCPT TO:<user@example.com>\r\nDATA\r\nSubject: smuggled\r\n\r\nSMUGGLED\r\n.\r\n'

const LINE_ENDS = fc.constantFrom('\r\n', '\r\n', '\r\n', '\n', '\r', '\r\r\n', '\n\r', '\0\r\n')
const COMMAND = fc.constantFrom(
  'MAIL FROM:<evil@example.net>',
  'RCPT TO:<user@example.com>',
  'DATA',
  'RSET',
  'QUIT',
  'BDAT 4 LAST',
  'EHLO evil.example.net',
)
const TEXT = fc.constantFrom(
  'a',
  'Subject: x',
  '.',
  '..',
  '...',
  '.a',
  ' ',
  '',
  '\xff\xfe',
  '\t',
  '\x0b',
  'x'.repeat(998),
)

/** Octets behind DATA as an attacker would send them: sequences, commands, dots and line ends of every kind. */
export function hostileData(): fc.Arbitrary<string> {
  const commandLine = fc.tuple(COMMAND, LINE_ENDS).map((pair) => pair.join(''))
  const piece = fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom(...SEQUENCES.values()) },
    { weight: 3, arbitrary: commandLine },
    { weight: 3, arbitrary: TEXT },
    { weight: 2, arbitrary: LINE_ENDS },
    { weight: 1, arbitrary: fc.constantFrom(EVIL, '\r\n.\r\n', '\r', '\n', '\0') },
  )
  return fc.array(piece, { minLength: 1, maxLength: 14, size: 'max' }).map((pieces) => `${pieces.join('')}\r\n.\r\n`)
}

/** Octets behind DATA that a sloppy but honest sender could send: here and there a bare LF, dots stuffed or not. */
export function sloppyData(): fc.Arbitrary<string> {
  const end = fc.oneof({ weight: 7, arbitrary: fc.constant('\r\n') }, { weight: 1, arbitrary: fc.constant('\n') })
  const line = fc.tuple(fc.oneof(TEXT, COMMAND), end).map((pair) => pair.join(''))
  return fc.array(line, { maxLength: 12, size: 'max' }).map((lines) => `${lines.join('')}\r\n.\r\n`)
}
