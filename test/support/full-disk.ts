// Preload (`node --import`): every write to a file under a folder `spool` fails with ENOSPC, as on a full disk. Opening works, as it does
// on a full disk; what was written before stays readable.
// Not taken: a small file system mounted for the test. That needs root.
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'

const WRITERS = ['write', 'writev', 'writeFile', 'appendFile'] as const

const open = fs.promises.open

async function openOnFullDisk(...request: Parameters<typeof open>): Promise<fs.promises.FileHandle> {
  const handle = await open(...request)
  if (!String(request[0]).includes('/spool/')) return handle
  for (const name of WRITERS) {
    Object.defineProperty(handle, name, { value: () => Promise.reject(noSpace(name)) })
  }
  return handle
}

function noSpace(call: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`ENOSPC: no space left on device, ${call}`), {
    code: 'ENOSPC',
    errno: -28,
    syscall: call,
  })
}

fs.promises.open = openOnFullDisk
syncBuiltinESMExports()
