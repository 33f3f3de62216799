// The SMTP client of the demonstration: writes exactly the octets it is given and keeps every answer.
// Promise: it adds nothing, mends nothing and never waits for longer than its patience; how the connection ended is the last entry.
// Not taken: a mail library, or the gateway's own reader of replies. The one would refuse to send half of the samples, the other would
// overlook what it has in common with the gateway: here a reply line ends with CRLF or not at all.
import { connect } from 'node:net'

/** Octets to write, and how many replies to wait for before the next turn. */
export interface Turn {
  readonly send: Buffer
  readonly replies: number
}

export interface Address {
  readonly host: string
  readonly port: number
}

/** The last entry of every conversation that the server ended in order. */
export const CLOSED = '(closed)'

const PATIENCE = 10_000

/** Takes the turns one after the other, then reads to the end of the connection. Never rejects: a failure is the last entry. */
export async function converse(server: Address, turns: readonly Turn[], patience = PATIENCE): Promise<string[]> {
  const heard: string[] = []
  const socket = connect({ ...server, noDelay: true })
  // The iterator below tells of errors; this keeps one that comes before its first step from ending the process.
  socket.on('error', () => {})
  const timer = setTimeout(() => socket.destroy(new Error(`no answer for ${patience / 1000} s`)), patience)
  const reader = new ReplyText()
  const input = socket[Symbol.asyncIterator]()
  // True where the server has closed.
  const listen = async (): Promise<boolean> => {
    const step = await input.next()
    if (step.done === true) return true
    heard.push(...reader.push(step.value as Buffer))
    return false
  }
  try {
    let wanted = 0
    let closed = false
    for (const { send, replies } of turns) {
      if (send.length > 0) socket.write(send)
      wanted += replies
      while (!closed && heard.length < wanted) closed = await listen()
      if (closed) break
    }
    while (!closed) closed = await listen()
    heard.push(CLOSED)
  } catch (error) {
    heard.push(`(lost: ${error instanceof Error ? error.message : String(error)})`)
  } finally {
    clearTimeout(timer)
    socket.destroy()
  }
  return heard
}

/** Whole replies from octets; the lines of one are joined by ` / `. */
class ReplyText {
  #pending = ''
  #lines: string[] = []

  push(chunk: Buffer): string[] {
    const lines = (this.#pending + chunk.toString('latin1')).split('\r\n')
    this.#pending = lines.pop() ?? ''
    const replies: string[] = []
    for (const line of lines) {
      this.#lines.push(line)
      // RFC 5321 4.2.1: a hyphen behind the code says that more lines follow.
      if (/^\d{3}-/.test(line)) continue
      replies.push(this.#lines.join(' / '))
      this.#lines = []
    }
    return replies
  }
}
