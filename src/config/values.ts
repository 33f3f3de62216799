// Values as people write them: durations (`5m`), sizes (`50MiB`), addresses with ports, networks. Each is a zod type that carries the name
// under which the settings table of the README shows it.
import { isIP } from 'node:net'
import { z } from 'zod'

const DURATION_UNITS = new Map([
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
])

const SIZE_UNITS = new Map([
  ['', 1],
  ['b', 1],
  ['kb', 1000],
  ['mb', 1000 ** 2],
  ['gb', 1000 ** 3],
  ['kib', 1024],
  ['mib', 1024 ** 2],
  ['gib', 1024 ** 3],
])

function withUnit(text: string, units: ReadonlyMap<string, number>): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim())
  const factor = units.get(match?.[2]?.toLowerCase() ?? '-')
  return match?.[1] === undefined || factor === undefined ? undefined : Math.round(Number(match[1]) * factor)
}

interface Measure {
  readonly kind: string
  readonly units: ReadonlyMap<string, number>
  readonly example: string
  /** As people write it. */
  readonly minimum: string
}

function measured({ kind, units, example, minimum }: Measure) {
  const least = withUnit(minimum, units) ?? 0
  return z.union([z.string(), z.number()], { error: `expected a ${kind} such as ${example}` }).transform((raw, ctx) => {
    const value = withUnit(String(raw), units)
    if (value === undefined || !Number.isSafeInteger(value)) {
      ctx.addIssue({ code: 'custom', message: `expected a ${kind} such as ${example}` })
      return z.NEVER
    }
    if (value < least) {
      ctx.addIssue({ code: 'custom', message: `expected at least ${minimum}` })
      return z.NEVER
    }
    return value
  })
}

/** A time in milliseconds, written `500ms`, `30s`, `5m`, `12h`, `1d`. */
export const duration = (minimum = '0s') =>
  measured({ kind: 'duration', units: DURATION_UNITS, example: '30s, 5m or 1d', minimum }).meta({ kind: 'duration' })

/** A size in octets, written `2048`, `256KiB`, `50MiB`. */
export const size = (minimum = '0') =>
  measured({ kind: 'size', units: SIZE_UNITS, example: '256KiB or 50MiB', minimum }).meta({ kind: 'size' })

export const count = (minimum = 0) => z.int().min(minimum).meta({ kind: 'number' })

export interface HostPort {
  readonly host: string
  readonly port: number
}

/** Splits `10.0.0.5:25`, `[::1]:25` or `mail.example.org:25`; undefined where the text is none of these. */
export function parseHostPort(text: string): HostPort | undefined {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:\s[\]]+)):(\d{1,5})$/i.exec(text)
  if (match === null) return undefined
  const host = match[1] ?? match[2] ?? ''
  const port = Number(match[3])
  if (port > 65535) return undefined
  if (match[1] !== undefined ? isIP(host) !== 6 : isIP(host) !== 4 && !isHostName(host)) return undefined
  return { host, port }
}

/** Underscores are allowed: names inside a container network have them. */
function isHostName(text: string): boolean {
  const labels = text.split('.')
  // `1.2.3` and `0x7f.1` are IPv4 addresses to the resolver of the system, though to nobody who reads them.
  if (/^(\d+|0x[\da-f]*)$/i.test(labels.at(-1) ?? '') || text.length > 253) return false
  return labels.every((label) => /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/i.test(label))
}

const HOST_PORT = 'expected host:port such as 10.0.0.5:25 or [::1]:25'

/** `host:port`; for listeners the host is an address. Port 0 lets the system choose. */
export const hostPort = () =>
  z
    .string({ error: HOST_PORT })
    .transform((text, ctx) => {
      const value = parseHostPort(text)
      if (value === undefined) {
        ctx.addIssue({ code: 'custom', message: HOST_PORT })
        return z.NEVER
      }
      return value
    })
    .meta({ kind: 'host:port' })

const NETWORK = 'expected an address or a network such as 192.0.2.0/24 or 2001:db8::/32'

/** An address or a network in CIDR notation. */
export const cidr = () =>
  z
    .string({ error: NETWORK })
    .refine(
      (text) => {
        const [address = '', prefix, ...rest] = text.split('/')
        const family = isIP(address)
        // isIP takes fe80::1%eth0; a zone means something on one machine only, and a network with one means nothing.
        if (family === 0 || rest.length > 0 || address.includes('%')) return false
        if (prefix === undefined) return true
        if (!/^(0|[1-9]\d{0,2})$/.test(prefix)) return false
        // An IPv4-mapped address is IPv4 to us: fewer bits than its prefix has would be half of the IPv6 world.
        const least = /^::ffff:[\d.]+$/i.test(address) ? 96 : 0
        return Number(prefix) >= least && Number(prefix) <= (family === 4 ? 32 : 128)
      },
      { error: NETWORK },
    )
    .meta({ kind: 'network' })
