// A throw-away Postfix for tests and benchmarks: its settings, its queue, its log and its mailboxes lie in the folder given.
// Promise: its master runs as our child and ends with it; the settings, the queue and the log of the machine's own Postfix are not touched.
// It needs root: master changes to the user `postfix` for its services. It asks no DNS.
// Not taken: `postfix start`. It checks and changes the installation of the machine.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { chmod, chown, mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { peer, skipWithout } from './peers.ts'
import { runCommand } from './run-command.ts'

export interface PostfixSetup {
  /** Everybody must be able to enter it and the folders above it: the services have users of their own. */
  readonly folder: string
  /** Lines of master.cf for the services that listen. */
  readonly services: readonly string[]
  /** It has started once this port of loopback greets. */
  readonly port: number
  /** Laid over the settings of main.cf below. */
  readonly settings?: Readonly<Record<string, string>>
  /** With a queue manager and all that delivers. Otherwise mail can only pass through. */
  readonly delivers?: boolean
}

const WAIT_LIMIT = 15_000
const NOBODY = 65534
const QUEUES = ['incoming', 'active', 'deferred', 'maildrop', 'hold', 'corrupt', 'bounce', 'defer', 'trace', 'saved']

const SETTINGS = {
  compatibility_level: '3.6',
  inet_interfaces: '127.0.0.1',
  inet_protocols: 'ipv4',
  mynetworks: '127.0.0.0/8',
  alias_maps: '',
  alias_database: '',
  smtpd_peername_lookup: 'no',
  disable_dns_lookups: 'yes',
}

const SERVICES = [
  'rewrite unix - - n - - trivial-rewrite',
  'proxymap unix - - n - - proxymap',
  'anvil unix - - n - 1 anvil',
  'cleanup unix n - n - 0 cleanup',
  'postlog unix-dgram n - n - 1 postlogd',
]

const DELIVERY = [
  'pickup unix n - n 60 1 pickup', // postqueue asks it whether Postfix runs
  'qmgr unix n - n 300 1 qmgr',
  'smtp unix - - n - - smtp',
  'virtual unix - n n - - virtual',
  'bounce unix - - n - 0 bounce',
  'defer unix - - n - 0 bounce',
  'trace unix - - n - 0 bounce',
  'error unix - - n - - error',
  'retry unix - - n - - error',
]

/** For the option `skip` of a test: why there can be no Postfix, or false. */
export function skipWithoutPostfix(...others: readonly string[]): string | false {
  return process.getuid?.() === 0 ? skipWithout('postfix', ...others) : 'only root can start a Postfix of its own'
}

export class Postfix {
  readonly port: number
  readonly #folder: string
  readonly #master: ChildProcess

  private constructor(master: ChildProcess, { folder, port }: PostfixSetup) {
    this.#master = master
    this.#folder = folder
    this.port = port
  }

  /** Starts it, with what a run before has left in the folder. */
  static async start(setup: PostfixSetup): Promise<Postfix> {
    const { folder, port } = setup
    const daemons = postconf('daemon_directory')
    await layOut(setup, daemons)
    const env = { PATH: process.env.PATH, MAIL_CONFIG: folder }
    const master = spawn(join(daemons, 'master'), ['-d', '-c', folder], { stdio: 'ignore', env })
    process.once('exit', () => master.kill('SIGTERM'))
    const postfix = new Postfix(master, setup)
    try {
      await polled('a greeting', async () => {
        if (master.exitCode !== null) throw new Error('master has ended')
        return (await greets(port)) || undefined
      })
    } catch (error) {
      master.kill('SIGTERM')
      throw new Error(`Postfix did not start: ${(await postfix.log()).trim().split('\n').slice(-5).join('\n')}`, {
        cause: error,
      })
    }
    return postfix
  }

  async stop(): Promise<void> {
    if (this.#master.exitCode !== null || this.#master.signalCode !== null) return
    const services = await childrenOf(this.#master)
    const gone = new Promise((resolve) => this.#master.once('exit', resolve))
    this.#master.kill('SIGTERM')
    // A service that is in the middle of a session would go on without its master. Master ends its services by their process group, which
    // here is ours: that a Ctrl-C reaches all of them.
    for (const pid of services) endProcess(pid)
    await gone
  }

  async log(): Promise<string> {
    return readFile(join(this.#folder, 'mail.log'), 'utf8').catch(() => '')
  }

  /** Waits until the log has so many lines of this kind, and gives their matches. */
  async logged(pattern: RegExp, count = 1): Promise<RegExpMatchArray[]> {
    return polled(`${count} × ${pattern} in the log of Postfix`, async () => {
      const matches = [...(await this.log()).matchAll(new RegExp(pattern, 'gm'))]
      return matches.length >= count ? matches : undefined
    })
  }

  /** Waits until so many messages in the Maildir of a virtual mailbox match, and gives all that do. */
  async mailbox(name: string, pattern: RegExp, count = 1): Promise<string[]> {
    const place = join(this.#folder, 'mail', name, 'new')
    return polled(`${count} × ${pattern} in the mailbox ${name}`, async () => {
      const files = await readdir(place).catch(() => [])
      const texts = await Promise.all(files.map((file) => readFile(join(place, file), 'latin1')))
      const matching = texts.filter((text) => pattern.test(text))
      return matching.length >= count ? matching : undefined
    })
  }

  /** Waits until so many messages lie in these queues, looked at in this order: name them as a message goes through them. */
  async queued(count: number, ...queues: readonly ('incoming' | 'active' | 'deferred')[]): Promise<void> {
    await polled(`${count} messages in ${queues.join(', ')}`, async () => {
      let found = 0
      for (const name of queues) {
        const place = join(this.#folder, 'queue', name)
        const entries = await readdir(place, { recursive: true, withFileTypes: true })
        found += entries.filter((entry) => entry.isFile()).length
      }
      return found === count || undefined
    })
  }

  /** Tries everything that is deferred now. */
  async flush(): Promise<void> {
    const { status, stderr } = await runCommand(peer('postqueue'), ['-c', this.#folder, '-f'])
    if (status !== 0) throw new Error(`postqueue: ${stderr}`)
  }
}

/** A setting of the Postfix that is installed. */
export function postconf(name: string): string {
  return execFileSync(peer('postconf'), ['-dh', name], { encoding: 'utf8' }).trim()
}

/** Settings with which Postfix delivers to Maildirs in the folder: `mailbox` reads them. */
export function mailboxSettings(folder: string, addresses: readonly string[]): Record<string, string> {
  const domains = new Set(addresses.map((address) => address.slice(address.indexOf('@') + 1)))
  return {
    mydestination: '',
    virtual_mailbox_domains: [...domains].join(' '),
    virtual_mailbox_base: join(folder, 'mail'),
    virtual_mailbox_maps: `inline:{ ${addresses.map((a) => `{ ${a} = ${a.slice(0, a.indexOf('@'))}/ }`).join(' ')} }`,
    virtual_uid_maps: `static:${NOBODY}`,
    virtual_gid_maps: `static:${NOBODY}`,
  }
}

async function layOut({ folder, services, settings, delivers }: PostfixSetup, daemons: string): Promise<void> {
  const id = (flag: string) => Number(execFileSync('id', [flag, 'postfix'], { encoding: 'utf8' }))
  const [user, group] = [id('-u'), id('-g')]
  const queues = [...QUEUES, 'private', 'public'].map((name) => `queue/${name}`)
  for (const name of ['queue', 'queue/pid', ...queues, 'data', 'mail']) {
    await mkdir(join(folder, name), { recursive: true })
    await chmod(join(folder, name), 0o755)
  }
  for (const name of [...queues, 'data']) await chown(join(folder, name), user, group)
  await chown(join(folder, 'mail'), NOBODY, NOBODY)
  await chmod(folder, 0o755)
  const places = {
    queue_directory: join(folder, 'queue'),
    data_directory: join(folder, 'data'),
    daemon_directory: daemons,
    maillog_file: join(folder, 'mail.log'),
    maillog_file_prefixes: folder,
  }
  const main = Object.entries({ ...SETTINGS, ...places, ...settings }).map(([name, value]) => `${name} = ${value}\n`)
  await writeFile(join(folder, 'main.cf'), main.join(''))
  // Postfix waits seconds with a file that is still warm.
  await utimes(join(folder, 'main.cf'), 0, 0)
  const all = [...services, ...SERVICES, ...(delivers ? DELIVERY : [])]
  await writeFile(join(folder, 'master.cf'), all.map((line) => `${line}\n`).join(''))
}

/** Asks until there is an answer; rejects where there is none in time. */
export async function polled<T>(what: string, ask: () => Promise<T | undefined>): Promise<T> {
  const deadline = Date.now() + WAIT_LIMIT
  for (;;) {
    const answer = await ask()
    if (answer !== undefined) return answer
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`)
    await sleep(20)
  }
}

async function childrenOf({ pid }: ChildProcess): Promise<number[]> {
  const list = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '')
  return list.trim().split(' ').filter(Boolean).map(Number)
}

function endProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGTERM')
  } catch {
    // It has ended by itself.
  }
}

function greets(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    const finish = (result: boolean): void => {
      socket.destroy()
      resolve(result)
    }
    socket.setTimeout(1000, () => finish(false))
    socket.once('error', () => finish(false))
    socket.once('data', (chunk) => finish(chunk.toString().startsWith('220')))
  })
}
