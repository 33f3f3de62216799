// postern run: the gateway, in the foreground, until SIGTERM or SIGINT.
import { Command } from 'commander'
import { App } from '../app.ts'
import { loadConfig } from '../config/load.ts'
import { explainFailure } from './exit.ts'

export function runCommand(): Command {
  return new Command('run')
    .description('run the gateway in the foreground')
    .option('-c, --config <file>', 'configuration file (default: postern.yaml, if there is one)')
    .action(run)
}

async function run(options: { config?: string }): Promise<void> {
  let app: App
  try {
    app = await App.create({ loaded: loadConfig({ path: options.config }) })
    await app.start()
  } catch (error) {
    process.exitCode = explainFailure(error)
    return
  }
  // A promise that nobody listened to is a bug of ours or of a plugin; the other sessions have nothing to do with it.
  process.on('unhandledRejection', (error) => {
    app.log.error(
      { error: error instanceof Error ? (error.stack ?? error.message) : String(error) },
      'unhandled rejection',
    )
  })
  process.on('SIGHUP', () => {
    app
      .reload(() => loadConfig({ path: options.config }))
      .catch((error: unknown) => {
        app.log.error({ error: String(error) }, 'reload failed: the old configuration stays')
      })
  })
  const signal = await nextSignal()
  app.log.info({ signal }, 'stopping')
  // A second signal ends it at once: the senders keep what was not answered (P1).
  nextSignal().then(() => process.exit(1))
  await app.stop()
  app.log.info({}, 'stopped')
  process.exit(0)
}

/** Resolves at the next SIGTERM or SIGINT. */
export function nextSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    process.once('SIGTERM', resolve)
    process.once('SIGINT', resolve)
  })
}
