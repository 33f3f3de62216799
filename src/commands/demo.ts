// postern demo: a gateway with sample mail, without any set-up; a table says what was sent, what was answered, and where it is.
// Promise: no network but loopback, no other service, nothing left behind with --once. The table is no show: each outcome is compared with
// what the promises of the gateway ask for, and the exit status says whether all were kept.
import { Command } from 'commander'
import { type DemoGateway, startGateway } from './demo/gateway.ts'
import { sendSamples } from './demo/outcome.ts'
import { type Sample, samples } from './demo/samples.ts'
import { tableLines } from './demo/table.ts'
import { EXIT, explainFailure, say, whenReaderLeaves } from './exit.ts'
import { nextSignal } from './run.ts'

// Easy to type, and the port that other programs use for trying out.
const FRIENDLY_PORT = 2525

export function demoCommand(): Command {
  return new Command('demo')
    .description('run a gateway with sample mail, without any set-up, and show what happened')
    .option('--once', 'end after the table; status 0 only if every outcome was as expected')
    .action(async ({ once = false }: { once?: boolean }) => {
      const stop = new AbortController()
      nextSignal().then(() => {
        stop.abort()
        // A second signal ends it at once.
        nextSignal().then(() => process.exit(EXIT.negative))
      })
      whenReaderLeaves(() => stop.abort())
      const ports = once ? [0] : [FRIENDLY_PORT, 0]
      process.exitCode = await demo({ once, ports, samples: samples(), stop: stop.signal, print: say })
    })
}

export interface DemoOptions {
  readonly once: boolean
  /** Ports to try in this order; 0 lets the system choose. */
  readonly ports: readonly number[]
  readonly samples: readonly Sample[]
  readonly stop: AbortSignal
  readonly print: (text: string) => void
}

/** Runs the demonstration to its end; resolves to the exit status. */
export async function demo({ once, ports, samples, stop, print }: DemoOptions): Promise<number> {
  let gateway: DemoGateway
  try {
    gateway = await startGateway({ ports, temporary: once })
  } catch (error) {
    return explainFailure(error)
  }
  try {
    const { server, maildir } = gateway
    print(`Gateway on ${server.host}:${server.port}, mail for example.com only. Maildir${once ? ' for now' : ''}:`)
    print(`${maildir}\n`)
    const outcomes = await sendSamples(samples, { server, maildir, stop })
    for (const line of tableLines(outcomes)) print(line)
    if (!once && !stop.aborted) {
      print(advice(gateway))
      await aborted(stop)
      print('Stopping.')
    }
    const unsent = samples.length - outcomes.length
    if (unsent > 0) print(`Interrupted; samples not sent: ${unsent}`)
    return unsent === 0 && outcomes.every(({ problems }) => problems.length === 0) ? EXIT.ok : EXIT.negative
  } finally {
    await gateway.stop()
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

function advice({ server, admin, maildir, folder }: DemoGateway): string {
  return `
It goes on running. Send more to anybody at example.com:
  swaks --server ${server.host}:${server.port} --from me@example.net --to you@example.com
  python3 -c 'import smtplib; smtplib.SMTP("${server.host}", ${server.port}).sendmail(
    "me@example.net", ["you@example.com"], "Subject: Hello\\r\\n\\r\\nIt works.\\r\\n")'
What was taken is in the Maildir:
  ls ${maildir}/new
Metrics, and whether it is ready:
  curl http://${admin.host}:${admin.port}/metrics
  curl http://${admin.host}:${admin.port}/readyz
Ctrl-C ends it; ${folder} stays until you remove it.`
}
