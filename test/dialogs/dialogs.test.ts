// Every *.dialog file of this folder is a test. The language is described at the top of test/support/dialog-script.ts.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { dialogsIn, runDialog } from '../support/dialog.ts'
import { parseScript } from '../support/dialog-script.ts'

for (const name of dialogsIn(import.meta.dirname)) {
  const file = join(import.meta.dirname, name)
  test(`${name}: ${parseScript(readFileSync(file, 'utf8'), name).title}`, () => runDialog(file, name))
}
