// Two kinds of load: Postfix's smtp-source, whose figures can be compared with anybody's, and a client of our own that takes the time of
// every message (smtp-source tells none).
import { DOMAIN } from '../support/gateway.ts'
import { peer } from '../support/peers.ts'
import { runCommand } from '../support/run-command.ts'
import { Talk } from '../support/talk.ts'

export interface Load {
  readonly port: number
  readonly sessions: number
  readonly messages: number
  /** Octets of the body. */
  readonly size: number
}

const LIMIT = 300_000

/** One message a connection; messages a second. */
export async function sourceRate({ port, sessions, messages, size }: Load): Promise<number> {
  const argv = ['-s', String(sessions), '-m', String(messages), '-l', String(size), '-f', 'bench@example.net']
  const began = performance.now()
  const target = ['-M', 'client.example.net', '-t', `user@${DOMAIN}`, `127.0.0.1:${port}`]
  const { status, stderr } = await runCommand(peer('smtp-source'), [...argv, ...target], { limit: LIMIT })
  if (status !== 0) throw new Error(`smtp-source ended with ${status}: ${stderr.slice(0, 500)}`)
  return messages / ((performance.now() - began) / 1000)
}

/** Milliseconds of each message, from connecting to the answer to its dot, in the order in which they ended. */
export async function messageTimes({ port, sessions, messages, size }: Load): Promise<number[]> {
  const body = Buffer.from(messageOf(size))
  const times: number[] = []
  let left = messages
  const worker = async (): Promise<void> => {
    while (left-- > 0) times.push(await sendOne(port, body))
  }
  await Promise.all(Array.from({ length: sessions }, worker))
  return times
}

function messageOf(size: number): string {
  const header = `From: <bench@example.net>\r\nTo: <user@${DOMAIN}>\r\nSubject: bench\r\n\r\n`
  const line = `${'x'.repeat(78)}\r\n`
  return `${header}${line.repeat(Math.ceil(size / line.length))}.\r\n`
}

async function sendOne(port: number, body: Buffer): Promise<number> {
  const began = performance.now()
  const talk = await Talk.open(port)
  try {
    // Step by step, as smtp-source and most senders do.
    await talk.ask('EHLO client.example.net\r\n', '250')
    await talk.ask('MAIL FROM:<bench@example.net>\r\n', '250')
    await talk.ask(`RCPT TO:<user@${DOMAIN}>\r\n`, '250')
    await talk.ask('DATA\r\n', '354')
    await talk.ask(body, '250')
    const took = performance.now() - began
    await talk.ask('QUIT\r\n', '221')
    return took
  } finally {
    talk.destroy()
  }
}
