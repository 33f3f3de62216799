// A throw-away Postfix that does nothing but its own before-queue filter proxy (smtpd_proxy_filter): what the gateway is measured against.
// Promise: everything lies in the folder given; its master runs as our child and ends with it. No queue is used, nothing is delivered.
// Not taken: `postfix start`. It checks and changes the installation of the machine.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { chmod, chown, mkdir, readFile, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../conformance/gateway.ts'
import { DOMAIN } from '../support/gateway.ts'
import { peer } from '../support/peers.ts'

const START_LIMIT = 15_000

// No filtering, no look-ups, no limits, no logging to the system: only the proxy is left.
const MAIN_CF = (folder: string, daemons: string) => `
compatibility_level = 3.6
queue_directory = ${folder}/queue
data_directory = ${folder}/data
daemon_directory = ${daemons}
maillog_file = ${folder}/mail.log
maillog_file_prefixes = ${folder}
myhostname = mx.example.com
mydestination = ${DOMAIN}
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_error_sleep_time = 0
default_process_limit = 200
message_size_limit = 52428800
`

const MASTER_CF = (port: number, sinkPort: number) => `
127.0.0.1:${port} inet n - n - - smtpd -o smtpd_proxy_filter=127.0.0.1:${sinkPort}
rewrite unix - - n - - trivial-rewrite
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
cleanup unix n - n - 0 cleanup
postlog unix-dgram n - n - 1 postlogd
`

export class PostfixProxy {
  readonly port: number
  readonly #master: ChildProcess

  private constructor(master: ChildProcess, port: number) {
    this.#master = master
    this.port = port
  }

  /** Needs root: master changes to the user `postfix` for its services. */
  static async start(folder: string, sinkPort: number): Promise<PostfixProxy> {
    const port = await freePort()
    const daemons = postconf('daemon_directory')
    await layOut(folder, MAIN_CF(folder, daemons), MASTER_CF(port, sinkPort))
    const env = { PATH: process.env.PATH, MAIL_CONFIG: folder }
    const master = spawn(join(daemons, 'master'), ['-d', '-c', folder], { stdio: 'ignore', env })
    process.once('exit', () => master.kill('SIGTERM'))
    const deadline = Date.now() + START_LIMIT
    while (!(await greets(port))) {
      if (Date.now() > deadline || master.exitCode !== null) {
        master.kill('SIGTERM')
        const log = await readFile(join(folder, 'mail.log'), 'utf8').catch(() => '')
        throw new Error(`Postfix did not start: ${log.trim().split('\n').slice(-5).join('\n')}`)
      }
      await sleep(50)
    }
    return new PostfixProxy(master, port)
  }

  async stop(): Promise<void> {
    if (this.#master.exitCode !== null || this.#master.signalCode !== null) return
    const gone = new Promise((resolve) => this.#master.once('exit', resolve))
    this.#master.kill('SIGTERM')
    await gone
  }
}

/** A setting of the Postfix that is installed. */
export function postconf(name: string): string {
  return execFileSync(peer('postconf'), ['-dh', name], { encoding: 'utf8' }).trim()
}

async function layOut(folder: string, main: string, master: string): Promise<void> {
  const id = (flag: string, name: string) => Number(execFileSync('id', [flag, name], { encoding: 'utf8' }))
  const [user, group] = [id('-u', 'postfix'), id('-g', 'postfix')]
  for (const name of ['queue', 'queue/pid', 'queue/private', 'queue/public', 'queue/incoming', 'data']) {
    await mkdir(join(folder, name), { recursive: true })
    await chmod(join(folder, name), 0o755)
    if (name !== 'queue' && name !== 'queue/pid') await chown(join(folder, name), user, group)
  }
  await chmod(folder, 0o755)
  await writeFile(join(folder, 'main.cf'), main)
  await writeFile(join(folder, 'master.cf'), master)
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
