// A disk that is full: a SpoolError and nothing else. The preload must be there before the message is, so a process of its own runs this.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'

const PRELOAD = new URL('../support/full-disk.ts', import.meta.url).href
const MESSAGE = new URL('../../src/message/message.ts', import.meta.url).href

const PROGRAM = `
  const { Message, SpoolError } = await import(${JSON.stringify(MESSAGE)})
  const message = new Message({ memory: 10, headerSize: 10, headerFields: 10, spoolDir: process.argv[1] })
  message.append(Buffer.from('Subject: a\\r\\n\\r\\n'))
  message.append(Buffer.alloc(300_000, 'x'))
  const told = await message.settled().then(() => 'nothing', (error) => [error instanceof SpoolError, error.message])
  message.dispose()
  message.dispose()
  console.log(JSON.stringify([told, message.lagging]))
`

test('ENOSPC is a SpoolError, and the message can be disposed of', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'postern-full-'))
  t.after(() => rmSync(dir, { recursive: true }))
  mkdirSync(join(dir, 'spool'))
  const args = ['--import', PRELOAD, '--input-type=module', '--eval', PROGRAM, `${join(dir, 'spool')}/`]
  const { stdout } = await promisify(execFile)(process.execPath, args)
  assert.deepEqual(JSON.parse(stdout), [[true, 'ENOSPC: no space left on device, write'], false])
})
