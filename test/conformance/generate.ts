// Messages that are too large or too exact to stand in a case file: nested multiparts, and mail with a DKIM signature that must survive.
// What `send_generated` sends is dot-stuffed and has no final dot.
import { generateKeyPairSync } from 'node:crypto'
import { dkimSign } from 'mailauth/lib/dkim/sign.js'
import { dkimVerify } from 'mailauth/lib/dkim/verify.js'
import type { StepArgument } from './format.ts'

const DOMAIN = 'example.net'
const SELECTOR = 'conformance'

interface Keys {
  readonly privateKey: string
  /** The key record as DNS would serve it. */
  readonly record: string
}

let keys: Keys | undefined

/** One key for the whole run: making one takes longer than a case. */
function signingKeys(): Keys {
  if (keys === undefined) {
    const pair = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const point = pair.publicKey.export({ type: 'spki', format: 'der' }).toString('base64')
    keys = {
      privateKey: pair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
      record: `v=DKIM1; k=rsa; p=${point}`,
    }
  }
  return keys
}

/** The message of a `send_generated` step, ready to be sent after 354. */
export async function generate(what: StepArgument<'send_generated'>): Promise<Buffer> {
  const message = what.kind === 'dkim_signed' ? await signedMessage(what.canon) : nestedMultipart(what)
  return dotStuffed(message)
}

/** RFC 5321 4.5.2: a line that begins with a dot gets another one. */
export function dotStuffed(message: Buffer): Buffer {
  return Buffer.from(message.toString('latin1').replace(/(^|\r\n)\./g, '$1..'), 'latin1')
}

function nestedMultipart(what: { readonly depth: number; readonly parts: number; readonly size: number }): Buffer {
  const leaf = `Content-Type: text/plain\r\n\r\n${fill(what.size)}the innermost part\r\n`
  let entity = leaf
  for (let level = what.depth; level > 0; level--) {
    const boundary = `level-${level}`
    const others = '--B\r\nContent-Type: text/plain\r\n\r\na part\r\n'.replace('B', boundary).repeat(what.parts - 1)
    entity =
      `Content-Type: multipart/mixed; boundary="${boundary}"\r\n\r\n` +
      `${others}--${boundary}\r\n${entity}--${boundary}--\r\n`
  }
  return Buffer.from(`From: a@${DOMAIN}\r\nSubject: nested\r\nMIME-Version: 1.0\r\n${entity}`)
}

function fill(octets: number): string {
  return 'x'
    .repeat(70)
    .concat('\r\n')
    .repeat(Math.ceil(octets / 72))
}

// Everything that a careless proxy changes: odd folding, odd case, runs of blanks, blanks at line ends, leading dots, empty lines at the end.
const DELICATE = [
  'from:   "Some  One" <someone@example.net>',
  'TO: user@example.com',
  'Subject: a  subject',
  '\twith   folding ',
  ' and more',
  'Date: Mon, 02 Nov 2026 10:00:00 +0000',
  'Message-ID: <conformance@example.net>',
  'X-Spam-Free: not one of our own names',
  'MIME-Version: 1.0',
  'Content-Type: text/plain; charset=utf-8',
  '',
  '.a line with a leading dot',
  '..',
  'blanks at the end  \t ',
  '',
  'd\u00e9j\u00e0 vu',
  `${'x'.repeat(990)}`,
  '',
  '',
  '',
].join('\r\n')

async function signedMessage(canonicalization: string): Promise<Buffer> {
  const message = Buffer.from(DELICATE)
  const key = { signingDomain: DOMAIN, selector: SELECTOR, privateKey: signingKeys().privateKey }
  // The types ask for the key at the top, the signer reads it from the list.
  const signed = await dkimSign(message, { ...key, canonicalization, signatureData: [key] })
  const [problem] = signed.errors
  if (problem !== undefined) throw new Error('the message could not be signed')
  return Buffer.concat([Buffer.from(signed.signatures), message])
}

/** True where the message has signatures and each of them is good. */
export async function dkimVerifies(message: Buffer): Promise<boolean> {
  const resolver = async (name: string, type: string): Promise<string[][]> => {
    if (type === 'TXT' && name === `${SELECTOR}._domainkey.${DOMAIN}`) return [[signingKeys().record]]
    throw Object.assign(new Error(`no ${type} of ${name}`), { code: 'ENOTFOUND' })
  }
  const { results } = await dkimVerify(message, { resolver })
  return results.length > 0 && results.every((one) => one.status.result === 'pass')
}
