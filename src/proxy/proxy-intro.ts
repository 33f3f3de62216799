// The PROXY header at the start of a connection, before anything looks at the client's address.
// Promise: only from listed addresses, mandatory there, within five seconds, and nothing is said before it; what follows it stays unread.
import type { Socket } from 'node:net'
import type { Clock } from '../net/clock.ts'
import { type ProxyHeader, parseProxyHeader } from '../smtp/proxy-header.ts'

const PATIENCE = 5000

/** Reads the header; resolves to `malformed` where it is none, comes too late, or the connection ends. */
export function readProxyHeader(socket: Socket, clock: Clock): Promise<ProxyHeader> {
  return new Promise((resolve) => {
    let bytes = Buffer.alloc(0)
    const finish = (header: ProxyHeader) => {
      timer.clear()
      socket.off('readable', onReadable)
      socket.off('error', onEnd)
      socket.off('end', onEnd)
      socket.off('close', onEnd)
      if ('length' in header && bytes.length > header.length) socket.unshift(bytes.subarray(header.length))
      resolve(header)
    }
    const timer = clock.timer(PATIENCE, () => finish({ kind: 'malformed', why: 'no PROXY header in time' }))
    const onEnd = () => finish({ kind: 'malformed', why: 'connection ended before the PROXY header' })
    const onReadable = () => {
      for (let chunk: Buffer | null = socket.read(); chunk !== null; chunk = socket.read())
        bytes = Buffer.concat([bytes, chunk])
      const header = parseProxyHeader(bytes)
      if (header.kind !== 'incomplete') finish(header)
    }
    socket.on('readable', onReadable)
    socket.on('error', onEnd)
    socket.on('end', onEnd)
    socket.on('close', onEnd)
  })
}
