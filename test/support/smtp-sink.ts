// Postfix's smtp-sink as a backend: a server that somebody else wrote. It can keep what it got, one file a message.
// Its dump has LF line ends and starts with fields of its own (X-Client-Addr and so on), ended by its Received field.
import { type ChildProcess, spawn } from 'node:child_process'
import { chmod, mkdir, readdir, readFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../conformance/gateway.ts'
import { peer } from './peers.ts'

export interface SinkMessage {
  readonly from: string
  readonly recipients: readonly string[]
  /** Latin-1, LF line ends: the message without what the sink put on top. */
  readonly content: string
}

export interface SinkOptions {
  /** Keep the messages in this folder; it must be one that everybody may enter. */
  readonly capture?: string
  /** Connections at a time. */
  readonly connections?: number
  /** Commands that it refuses with 500 5.3.0. */
  readonly refuse?: string
}

const START_LIMIT = 10_000
const ARRIVAL_LIMIT = 10_000

const running = new Set<ChildProcess>()
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

export class SmtpSink {
  readonly port: number
  readonly #child: ChildProcess
  readonly #capture: string | undefined

  private constructor(child: ChildProcess, port: number, capture: string | undefined) {
    this.#child = child
    this.port = port
    this.#capture = capture
  }

  static async start({ capture, connections = 256, refuse }: SinkOptions = {}): Promise<SmtpSink> {
    const port = await freePort()
    // -C: no XCLIENT. It announces it, and answers it with 250 in place of 220.
    const argv = ['-C', '-m', String(connections), '-h', 'sink.example.com']
    if (refuse !== undefined) argv.push('-f', refuse)
    // It refuses to run as root.
    if (process.getuid?.() === 0) argv.push('-u', 'nobody')
    if (capture !== undefined) {
      await mkdir(capture, { recursive: true })
      await chmod(capture, 0o777)
      argv.push('-d', join(capture, 'm.'))
    }
    const child = spawn(peer('smtp-sink'), [...argv, `127.0.0.1:${port}`, '1024'], { stdio: 'ignore' })
    running.add(child)
    child.once('exit', () => running.delete(child))
    await untilListening(child, port)
    return new SmtpSink(child, port, capture)
  }

  /** What it kept, once so many messages are there; it waits for them a bounded time and gives what there is. */
  async messages(count: number): Promise<SinkMessage[]> {
    const folder = this.#capture
    if (folder === undefined) throw new Error('this sink keeps nothing')
    const deadline = Date.now() + ARRIVAL_LIMIT
    let dumps = await readDumps(folder)
    for (; dumps.length < count && Date.now() < deadline; dumps = await readDumps(folder)) await sleep(20)
    return dumps.map(parseDump)
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const gone = new Promise((resolve) => this.#child.once('exit', resolve))
    this.#child.kill('SIGTERM')
    await gone
  }
}

// A transaction has a file from its MAIL on, which is filled before the dot is answered, and removed where there never is a dot.
async function readDumps(folder: string): Promise<string[]> {
  const names = await readdir(folder)
  const texts = await Promise.all(names.map((name) => readFile(join(folder, name), 'latin1').catch(() => '')))
  // Of a transaction that is under way the lines about the envelope may be there, and nothing more.
  return texts.filter((text) => /^Received: /m.test(text))
}

function parseDump(text: string): SinkMessage {
  const own = /^(?:X-[A-Za-z-]+: .*\n)+Received: .*\n(?:[ \t].*\n)*/.exec(text)?.[0]
  if (own === undefined) throw new Error(`not a dump of smtp-sink: ${text.slice(0, 200)}`)
  const args = (name: string) => [...own.matchAll(new RegExp(`^X-${name}-Args: <(.*)>.*$`, 'gim'))]
  return {
    from: args('Mail')[0]?.[1] ?? '',
    recipients: args('Rcpt').map(([, address]) => address ?? ''),
    content: text.slice(own.length),
  }
}

async function untilListening(child: ChildProcess, port: number): Promise<void> {
  const deadline = Date.now() + START_LIMIT
  while (!(await takesConnections(port))) {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error('smtp-sink did not start')
    if (Date.now() > deadline) throw new Error('smtp-sink did not listen in time')
    await sleep(10)
  }
}

function takesConnections(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('error', () => resolve(false))
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
  })
}
