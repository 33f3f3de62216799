// The command `postern`: finds the subcommand, nothing else. Exit status: 0 ok, 1 negative answer, 64 usage, 69 unavailable, 78 configuration.
import { Command, CommanderError } from 'commander'
import { ownVersion } from './app.ts'
import { checkCommand } from './commands/check.ts'
import { demoCommand } from './commands/demo.ts'
import { EXIT } from './commands/exit.ts'
import { runCommand } from './commands/run.ts'

const program = new Command('postern')
  .description('An anti-spam filtering SMTP proxy')
  .version(await ownVersion())
  .exitOverride()
  .showHelpAfterError('(postern --help shows what there is)')

// Subcommands copy the settings of the program when they are added.
for (const command of [runCommand(), checkCommand(), demoCommand()])
  program.addCommand(command.copyInheritedSettings(program))

try {
  await program.parseAsync()
} catch (error) {
  if (!(error instanceof CommanderError)) throw error
  process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage
}
