// postern demo: a gateway with sample mail, without any set-up; a table says what was sent, what was answered, and where it is.
// Promise: no network but loopback, no other service, nothing left behind with --once. The table is no show: each outcome is compared with
// what the promises of the gateway ask for, and the exit status says whether all were kept.
import { Command } from 'commander'
import type { Address } from './demo/client.ts'
import { type DemoGateway, startGateway } from './demo/gateway.ts'
import { sendSamples } from './demo/outcome.ts'
import { type Sample, samples } from './demo/samples.ts'
import { tableLines } from './demo/table.ts'
import { EXIT, explainFailure, say } from './exit.ts'
import { nextSignal } from './run.ts'

// Easy to type, and the port that other programs use for trying out.
const FRIENDLY_PORT = 2525

export function demoCommand(): Command {
  return new Command('demo')
    .description('run a gateway with sample mail, without any set-up, and show what happened')
    .option('--once', 'end after the table; status 0 only if every outcome was as expected')
    .action(async ({ once = false }: { once?: boolean }) => {
      process.exitCode = await demo({ once, samples: samples(), print: say })
    })
}

export interface DemoOptions {
  readonly once: boolean
  readonly samples: readonly Sample[]
  readonly print: (text: string) => void
}

/** Runs the demonstration to its end; resolves to the exit status. */
export async function demo({ once, samples, print }: DemoOptions): Promise<number> {
  const interrupted = new AbortController()
  const signalled = nextSignal().then(() => {
    interrupted.abort()
    // A second signal ends it at once.
    nextSignal().then(() => process.exit(EXIT.negative))
  })
  let gateway: DemoGateway
  try {
    gateway = await startGateway({ ports: once ? [0] : [FRIENDLY_PORT, 0], temporary: once })
  } catch (error) {
    return explainFailure(error)
  }
  try {
    const { server, maildir } = gateway
    print(`Gateway on ${addressText(server)}, taking mail for example.com; Maildir ${maildir}\n`)
    const outcomes = await sendSamples(samples, { server, maildir, signal: interrupted.signal })
    for (const line of tableLines(outcomes)) print(line)
    if (!once && !interrupted.signal.aborted) {
      print(advice(gateway))
      await signalled
      print('Stopping.')
    }
    const complete = outcomes.length === samples.length
    return complete && outcomes.every(({ problems }) => problems.length === 0) ? EXIT.ok : EXIT.negative
  } finally {
    await gateway.stop()
  }
}

function addressText({ host, port }: Address): string {
  return `${host}:${port}`
}

function advice({ server, admin, maildir, folder }: DemoGateway): string {
  const { host, port } = server
  return `
It goes on running. Send more to anybody at example.com:
  swaks --server ${addressText(server)} --from me@example.net --to you@example.com
  python3 -c 'import smtplib; smtplib.SMTP("${host}", ${port}).sendmail(
    "me@example.net", ["you@example.com"], "Subject: Hello\\r\\n\\r\\nIt works.\\r\\n")'
What was taken is in the Maildir:
  ls ${maildir}/new
Metrics, and whether it is ready:
  curl http://${addressText(admin)}/metrics
  curl http://${addressText(admin)}/readyz
Ctrl-C ends it; ${folder} stays until you remove it.`
}
