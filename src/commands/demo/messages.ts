// The contents of the sample mails, in canonical form: CRLF line ends, dots as they are.
// Promise: every address and host is one of the reserved example domains (RFC 2606); octets are latin1 characters until `octets` is asked.
import { mailDate } from '../../message/trace-headers.ts'

export interface MessageText {
  readonly name: string
  readonly subject: string
  readonly to?: string
  /** Further header lines, such as Content-Type. */
  readonly header?: readonly string[]
  readonly body: readonly string[]
}

/** A whole message. Text beyond ASCII becomes UTF-8. */
export function message({ name, subject, to = '<reader@example.com>', header = [], body }: MessageText): Buffer {
  const lines = [
    'From: Sample Sender <sender@example.net>',
    `To: ${to}`,
    `Subject: ${subject}`,
    `Date: ${mailDate(new Date())}`,
    `Message-ID: <demo-${name}@example.net>`,
    ...header,
    '',
    ...body,
  ]
  return Buffer.from(lines.map((line) => `${line}\r\n`).join(''))
}

const MIME = 'MIME-Version: 1.0'
const PLAIN_8BIT = ['Content-Type: text/plain; charset=utf-8', 'Content-Transfer-Encoding: 8bit']

export function plainNote(): Buffer {
  return message({
    name: 'plain',
    subject: 'Lunch on Thursday',
    body: ['Hello,', '', 'is noon all right for you?', '', '-- ', 'The sample sender'],
  })
}

export function newsletter(): Buffer {
  return message({
    name: 'newsletter',
    subject: 'News of the month',
    header: [
      MIME,
      'Content-Type: multipart/alternative; boundary="=_news"',
      'List-Unsubscribe: <https://www.example.net/unsubscribe>',
    ],
    body: [
      '--=_news',
      'Content-Type: text/plain; charset=us-ascii',
      '',
      'The news as plain text: https://www.example.net/news',
      '--=_news',
      'Content-Type: text/html; charset=us-ascii',
      '',
      '<html><body><h1>News</h1><p><a href="https://www.example.net/news">Read on</a></p></body></html>',
      '--=_news--',
    ],
  })
}

export function attachment(): Buffer {
  // Every octet there is, eight times.
  const data = Buffer.from(Array.from({ length: 2048 }, (_, i) => i % 256))
  return message({
    name: 'attachment',
    subject: 'The file you asked for',
    header: [MIME, 'Content-Type: multipart/mixed; boundary="=_file"'],
    body: [
      '--=_file',
      'Content-Type: text/plain; charset=us-ascii',
      '',
      'Here it is.',
      '--=_file',
      'Content-Type: application/octet-stream; name="octets.bin"',
      'Content-Disposition: attachment; filename="octets.bin"',
      'Content-Transfer-Encoding: base64',
      '',
      ...(data.toString('base64').match(/.{1,76}/g) ?? []),
      '--=_file--',
    ],
  })
}

export function encodedSubject(): Buffer {
  // RFC 2047: both encodings.
  const words = ['=?UTF-8?Q?Gr=C3=BC=C3=9Fe?=', `=?UTF-8?B?${Buffer.from('и привет 👋').toString('base64')}?=`]
  return message({
    name: 'subject',
    subject: words.join('\r\n '),
    header: [MIME, 'Content-Type: text/plain; charset=us-ascii'],
    body: ['The subject says hello in two languages.'],
  })
}

export function eightBitBody(): Buffer {
  const body = ['Schöne Grüße aus Köln.', 'Les élèves ont déjà répondu.', '日本語もそのまま通ります。']
  return message({ name: '8bit', subject: 'Beyond ASCII', header: [MIME, ...PLAIN_8BIT], body })
}

export function dotLines(): Buffer {
  const body = ['.', '..', '...', '.config', 'a line in between.', '. ', '.']
  return message({ name: 'dots', subject: 'Lines that begin with dots', body })
}

export function toTwo(): Buffer {
  return message({
    name: 'two',
    subject: 'To both of you',
    to: '<reader@example.com>, <other@example.com>',
    body: ['One message, two recipients, one transaction.'],
  })
}

export function lineFeeds(): Buffer {
  const body = ['Sent with bare line feeds,', 'as scripts and small devices do.', '', 'It must arrive with CRLF.']
  return message({ name: 'lf', subject: 'Bare line feeds', body })
}

export function short(name: string, subject: string): Buffer {
  return message({ name, subject, body: ['This one must not arrive.'] })
}

/** A message of more than so many octets. */
export function oversize(octets: number): Buffer {
  const line = 'x'.repeat(74)
  const body = Array.from({ length: Math.ceil(octets / (line.length + 2)) }, () => line)
  return message({ name: 'oversize', subject: 'Far too large', body })
}
