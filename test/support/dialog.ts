// Runs a dialogue (see dialog-script.ts for the language): a real session between a client and a backend that say what the script says.
// Promise: no socket, no real time; a dialogue that goes another way fails with file:line, what was expected and what came, and with the
// whole transcript. What nobody asked about fails it too: at its end neither side may have unread lines, and no timer may be left.
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { PassThrough } from 'node:stream'
import { Session } from '../../src/proxy/session.ts'
import { buildGateway, type Gateway, milliseconds, of } from './dialog-gateway.ts'
import { Peer } from './dialog-peer.ts'
import { isPattern, parseScript, type Script, type Step } from './dialog-script.ts'
import { settle } from './fake-clock.ts'
import { expectNoSecret } from './secrets.ts'

const PROFILE = 'PIPELINING, SIZE 52428800, 8BITMIME, SMTPUTF8, DSN'

const SECURE = { protocol: 'TLSv1.3', cipher: 'TLS_AES_256_GCM_SHA384' }

/** Runs the dialogue in `file`. */
export function runDialog(file: string, name: string): Promise<void> {
  return runText(readFileSync(file, 'utf8'), name)
}

/** Runs a dialogue; `name` is what it is called where it fails. */
export async function runText(text: string, name: string): Promise<void> {
  await new Dialog(parseScript(text, name)).run()
}

class Dialog {
  readonly #script: Script
  readonly #backends: Peer[] = []
  readonly #transcript: string[] = []
  readonly #running: Promise<void>[] = []
  #gateway: Gateway | undefined
  #client: Peer | undefined
  #session: Session | undefined
  #refusing = false
  #transactions = 0
  #sessions = 0
  #lastReason = ''
  #skipping = false

  constructor(script: Script) {
    this.#script = script
  }

  async run(): Promise<void> {
    const gateway = await buildGateway(this.#script, () => this.#dial())
    this.#gateway = gateway
    let at: Step | undefined
    try {
      if (this.#script.steps[0]?.verb !== 'dial') this.#connect()
      const { steps } = this.#script
      for (let i = 0; i < steps.length; i++) {
        at = steps[i]
        if (at === undefined) break
        if (at.verb === 'c') {
          let out = ''
          for (; steps[i]?.verb === 'c'; i++) out += `${steps[i]?.text}\r\n`
          i--
          this.#say(out)
        } else await this.#perform(at, gateway)
        if (at.verb === 'dial' && this.#client === undefined) this.#connect()
      }
      at = undefined
      await this.#finish(gateway)
    } catch (error) {
      const where = at === undefined ? 'at its end' : `line ${at.line} (${at.verb}: ${at.text.slice(0, 80)})`
      const what = error instanceof Error ? error.message : String(error)
      const log = gateway.log.entries.map((e) => `  log ${e.level} ${e.text} ${JSON.stringify(e.fields)}`)
      throw new Error([`${this.#script.file}, ${where}: ${what}`, ...this.#transcript, ...log].join('\n'), {
        cause: error,
      })
    } finally {
      rmSync(gateway.spoolDir, { recursive: true })
    }
  }

  // What is still open is ended as the world would: then nothing may be left over.
  async #finish(gateway: Gateway): Promise<void> {
    await settle()
    this.#expectNothing()
    this.#client?.stream.end()
    await settle()
    await gateway.deps.destination.close()
    for (const backend of this.#backends) {
      backend.stream.resume()
      backend.stream.end()
    }
    await gateway.clock.advance(3600_000)
    await Promise.all(this.#running)
    if (gateway.clock.pending > 0) throw new Error(`${gateway.clock.pending} timers are left`)
    const errors = gateway.log.texts('error').filter((text) => text === 'session failed' || text === 'listener failed')
    if (errors.length > 0) throw new Error(errors.join(', '))
    for (const { text } of of(this.#script, 'secret')) expectNoSecret([...gateway.log.entries, ...gateway.events], text)
    const left = gateway.pool.state().filter((state) => state.open > 0)
    if (left.length > 0) throw new Error('connections to the backend are left open')
  }

  #connect(address = of(this.#script, 'client')[0]?.text ?? '198.51.100.7'): void {
    const gateway = this.#gateway
    if (gateway === undefined) throw new Error('not built')
    const client = new Peer('client')
    const { listener, deps } = gateway
    const session = new Session({
      stream: client.far,
      listener,
      client: { address, port: 2525 },
      peer: { address, port: 2525 },
      local: () => ({ address: '192.0.2.25', port: 25 }),
      deps,
      secure: of(this.#script, 'submission')[0]?.text === '' ? SECURE : undefined,
    })
    this.#client = client
    this.#session = session
    this.#running.push(session.run())
  }

  #dial(): Peer['far'] {
    const peer = new Peer(`backend connection ${this.#backends.length + 1}`)
    if (this.#refusing) {
      const dead = new PassThrough()
      queueMicrotask(() => dead.destroy(new Error('connect ECONNREFUSED')))
      return Object.assign(dead, { reset: () => {} })
    }
    this.#backends.push(peer)
    const announced = of(this.#script, 'backend')[0]?.text ?? PROFILE
    if (announced !== 'manual') this.#greet(peer, announced.split(/,\s*/).filter(Boolean))
    return peer.far
  }

  #greet(peer: Peer, keywords: readonly string[]): void {
    peer.send('220 backend.example.org ESMTP\r\n')
    const lines = ['backend.example.org', ...keywords]
    const answer = lines.map((line, i) => `250${i === lines.length - 1 ? ' ' : '-'}${line}\r\n`).join('')
    peer.line().then(
      () => peer.send(answer),
      () => {}, // closed before EHLO: the dialogue will say so where it matters
    )
  }

  get #peer(): Peer {
    if (this.#client === undefined) throw new Error('no client')
    return this.#client
  }

  #backend(which: number): Peer {
    const peer = which === 0 ? this.#backends.at(-1) : this.#backends[which - 1]
    if (peer === undefined) throw new Error(`backend connection ${which === 0 ? '' : which} was not made`)
    return peer
  }

  #say(text: string): void {
    this.#note('c', text)
    this.#peer.send(text)
  }

  async #perform(step: Step, gateway: Gateway): Promise<void> {
    const { verb, text, which } = step
    switch (verb) {
      case 'c!':
        return this.#say(text)
      case 's':
        return this.#expectReply(text)
      case 'b':
        return this.#expectLine(await this.#made(which), text)
      case 'w': {
        const wanted = text.split(' | ').map((line) => `${line}\r\n`)
        const got = await (await this.#made(which)).write()
        this.#note('w', got)
        return same(got, wanted.join(''))
      }
      case 'B':
      case 'B!':
        this.#note(verb, text)
        return (await this.#made(which)).send(verb === 'B' ? `${text}\r\n` : text)
      case 'Bclose':
        this.#backend(which).stream.end()
        return settle()
      case 'Brst':
        this.#backend(which).stream.reset()
        return settle()
      case 'Bpause':
        this.#backend(which).stream.pause()
        return
      case 'Cpause':
        this.#peer.stream.pause()
        return
      case 'Bdrop':
        return this.#backend(which).drop()
      case 'dial':
        this.#refusing = text === 'refuse'
        return
      case 'dials':
        await settle()
        return same(String(this.#backends.length), text)
      case 't':
        return gateway.clock.advance(milliseconds(text))
      case 'close':
        this.#peer.stream.end()
        return settle()
      case 'rst':
        this.#peer.stream.reset()
        return settle()
      case 'connect':
        return this.#connect(text === '' ? undefined : text)
      case 'gone':
        return text === 's' ? this.#peer.untilClosed() : this.#backend(Number(text.slice(1))).untilClosed()
      case 'quiet':
        await settle()
        return this.#expectNothing()
      case 'stop':
        return this.#session?.stop()
      case 'cutoff':
        return this.#session?.cutOff()
      default:
        return this.#expectEvent(verb, text, gateway)
    }
  }

  // Another connection may be about to be made: what leads to it may still be under way.
  async #made(which: number): Promise<Peer> {
    if (which === 0 || this.#backends.length < which) await settle()
    return this.#backend(which)
  }

  async #expectReply(text: string): Promise<void> {
    const lines: string[] = []
    do lines.push(await this.#peer.line())
    while (/^\d{3}-/.test(lines.at(-1) ?? ''))
    const reply = lines.map((line) => line.replace(/^(\d{3})-/, '$1 ')).join('\n')
    this.#note('s', reply)
    if (isPattern(text) ? !pattern(text).test(reply) : !reply.startsWith(text)) same(reply, text)
  }

  async #expectLine(peer: Peer, text: string): Promise<void> {
    if (text === '...') {
      this.#skipping = true
      return
    }
    for (;;) {
      const line = await peer.line()
      this.#note('b', line)
      const fits = isPattern(text) ? pattern(text).test(line) : line === text
      if (!fits && this.#skipping) continue
      this.#skipping = false
      return fits ? undefined : same(line, text)
    }
  }

  async #expectEvent(verb: string, text: string, gateway: Gateway): Promise<void> {
    await settle()
    if (verb === 'outcome') {
      const tx = gateway.transactions[this.#transactions++]
      this.#lastReason = tx?.reason ?? ''
      return same(tx?.outcome ?? 'no transaction ended', text)
    }
    if (verb === 'ended') return same(gateway.sessions[this.#sessions++]?.end ?? 'no session ended', text)
    if (!this.#lastReason.includes(text)) same(this.#lastReason, text)
  }

  #expectNothing(): void {
    if (this.#client?.unread) throw new Error(`unread by the client: ${JSON.stringify(this.#client.unread)}`)
    for (const { name, unread } of this.#backends) {
      if (unread !== '' && unread !== 'QUIT\r\n') throw new Error(`unread by ${name}: ${JSON.stringify(unread)}`)
    }
  }

  #note(who: string, text: string): void {
    this.#transcript.push(`  ${who} ${JSON.stringify(text.length > 300 ? `${text.slice(0, 300)}…` : text)}`)
  }
}

function pattern(text: string): RegExp {
  return new RegExp(text.slice(1, -1), 's')
}

function same(got: string, wanted: string): void {
  if (got !== wanted) throw new Error(`expected ${JSON.stringify(wanted)}, got ${JSON.stringify(got)}`)
}

/** The dialogues of a folder by name, in alphabetical order. */
export function dialogsIn(dir: string): string[] {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.dialog'))
    .toSorted()
}
