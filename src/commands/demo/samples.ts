// The sample mails: what is sent, octet by octet, and what must come of it.
// Promise: a sample says beforehand how every single answer begins and which octets must lie in the Maildir afterwards; nothing is expected
// "more or less". Not taken: a list of features to show off. Each sample is something that happens to a mail server in its first week.
import { CLOSED, type Turn } from './client.ts'
import * as text from './messages.ts'

export interface Sample {
  readonly what: string
  readonly turns: readonly Turn[]
  /** How each answer must begin, from the greeting to the end of the connection. */
  readonly answers: readonly string[]
  /** What must be stored behind the headers that the gateway adds; undefined: nothing. */
  readonly stored: Buffer | undefined
}

/** The limit of the demonstration's gateway: one sample is above it. */
export const MESSAGE_SIZE = 1024 ** 2

const FROM = 'sender@example.net'
const TO = 'reader@example.com'
const GREETING: Turn = { send: Buffer.alloc(0), replies: 1 }
const HELLO = 'EHLO client.example.net'

// Answers of the usual course, by what they answer.
const GREETED = ['220 ', '250']
const MAIL_OK = '250 2.1.0'
const RCPT_OK = '250 2.1.5'
const BYE = ['221 2.0.0', CLOSED]

function line(command: string): Turn {
  return { send: Buffer.from(`${command}\r\n`), replies: 1 }
}

/** Dots doubled and the end of data behind them (RFC 5321 4.5.2). */
function onTheWire(content: Buffer): Buffer {
  const stuffed = content.toString('latin1').replace(/^\./gm, '..')
  return Buffer.from(`${stuffed}.\r\n`, 'latin1')
}

interface Mail {
  readonly what: string
  readonly content: Buffer
  /** What is sent after 354, where it is not simply the content. */
  readonly wire?: Buffer
  readonly parameters?: string
  /** The answer to the end of data. */
  readonly answer?: string
}

/** One message, command by command. With the answer 250 it must be stored. */
function mail({ what, content, wire = onTheWire(content), parameters = '', answer = '250 2.0.0' }: Mail): Sample {
  return {
    what,
    turns: [
      GREETING,
      line(HELLO),
      line(`MAIL FROM:<${FROM}>${parameters}`),
      line(`RCPT TO:<${TO}>`),
      line('DATA'),
      { send: wire, replies: 1 },
      line('QUIT'),
    ],
    answers: [...GREETED, MAIL_OK, RCPT_OK, '354 ', answer, ...BYE],
    stored: answer.startsWith('250') ? content : undefined,
  }
}

function pipelined(): Sample {
  const content = text.toTwo()
  const envelope = [`MAIL FROM:<${FROM}>`, `RCPT TO:<${TO}>`, 'RCPT TO:<other@example.com>', 'DATA']
  const send = Buffer.from(envelope.map((command) => `${command}\r\n`).join(''))
  return {
    what: 'two recipients, pipelined',
    turns: [GREETING, line(HELLO), { send, replies: 4 }, { send: onTheWire(content), replies: 1 }, line('QUIT')],
    answers: [...GREETED, MAIL_OK, RCPT_OK, RCPT_OK, '354 ', '250 2.0.0', ...BYE],
    stored: content,
  }
}

// Every line end but the last is a bare LF: the end of data itself must have its CRLF.
function bareLineFeeds(): Sample {
  const content = text.lineFeeds()
  const lines = content.toString('latin1').slice(0, -2).replaceAll('\r\n', '\n')
  return mail({ what: 'note with bare line feeds', content, wire: Buffer.from(`${lines}\r\n.\r\n`, 'latin1') })
}

/** A recipient that must be refused; nothing more is sent. */
function refusedRecipient(what: string, recipient: string): Sample {
  return {
    what,
    turns: [GREETING, line(HELLO), line(`MAIL FROM:<${FROM}>`), line(`RCPT TO:<${recipient}>`), line('QUIT')],
    answers: [...GREETED, MAIL_OK, '550 5.7.1', ...BYE],
    stored: undefined,
  }
}

// A server that takes LF.LF for an end of data would read a second envelope here, with a sender that nobody has checked.
function smuggling(): Sample {
  const content = text.short('smuggling', 'The visible half')
  const second = text.short('smuggled', 'The hidden half')
  const envelope = `MAIL FROM:<admin@example.com>\r\nRCPT TO:<${TO}>\r\nDATA\r\n`
  const wire = Buffer.concat([content, Buffer.from(`\n.\n${envelope}`), onTheWire(second)])
  return mail({ what: 'smuggling attempt (LF.LF)', content, wire, answer: '550 5.5.2' })
}

// RFC 5321 3.1: a client waits for the greeting. Programs that do not want an answer do not read the others either.
function earlyTalker(): Sample {
  const content = text.short('early', 'Sent without listening')
  const envelope = `${HELLO}\r\nMAIL FROM:<${FROM}>\r\nRCPT TO:<${TO}>\r\nDATA\r\n`
  const send = Buffer.concat([Buffer.from(envelope), onTheWire(content), Buffer.from('QUIT\r\n')])
  return {
    what: 'talks before the greeting',
    turns: [{ send, replies: 0 }],
    answers: ['220 ', '554 5.5.0', CLOSED],
    stored: undefined,
  }
}

/** All of them, in the order of the table. */
export function samples(): Sample[] {
  return [
    mail({ what: 'a plain note', content: text.plainNote() }),
    mail({ what: 'a newsletter in HTML', content: text.newsletter() }),
    mail({ what: 'an attachment', content: text.attachment() }),
    mail({ what: 'subject beyond ASCII', content: text.encodedSubject() }),
    mail({ what: 'an 8-bit body', content: text.eightBitBody(), parameters: ' BODY=8BITMIME' }),
    mail({ what: 'lines of dots', content: text.dotLines() }),
    pipelined(),
    bareLineFeeds(),
    refusedRecipient('relaying to elsewhere', 'someone@example.org'),
    refusedRecipient('relaying by percent sign', 'someone%example.org@example.com'),
    smuggling(),
    mail({ what: 'larger than allowed', content: text.oversize(MESSAGE_SIZE), answer: '552 5.3.4' }),
    earlyTalker(),
  ]
}
