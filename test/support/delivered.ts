// What becomes of a message on its way through the gateway, told a second time without the gateway's own code: our fields on top, the fields
// forged under our names gone, every other octet as it was.

const TRACE =
  /^Received: from client\.example\.net \(\[127\.0\.0\.1\]\)\r?\n\tby mx\.example\.com (?:.*\r?\n)*?X-Postern-Id: .*\r?\n/

/** What stands below the fields that the gateway of the tests puts on top; undefined where they are not there. */
export function belowTrace(delivered: string): string | undefined {
  const trace = TRACE.exec(delivered)?.[0]
  return trace === undefined ? undefined : delivered.slice(trace.length)
}

const FIELD = /^[!-9;-~]+[ \t]*:/
const FORGED = /(?<=^|\r\n)(?:X-Spam|X-Spam-[!-9;-~]*|X-Postern-[!-9;-~]*)[ \t]*:.*(?:\r\n[ \t].*)*\r\n/gi

/** What is to stand there for a message of canonical lines. */
export function asDelivered(sent: string): string {
  if (sent === '' || sent.startsWith('\r\n')) return sent
  const mailbox = !FIELD.test(sent) && /^>?From /.test(sent)
  // Text without a header must not go on in our last field.
  if (!mailbox && !FIELD.test(sent)) return `\r\n${sent}`
  const end = sent.indexOf('\r\n\r\n')
  const header = end < 0 ? sent : sent.slice(0, end + 2)
  return `${mailbox ? 'X-Mailbox-Line: ' : ''}${header.replace(FORGED, '')}${sent.slice(header.length)}`
}
