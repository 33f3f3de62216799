// The PROXY protocol, versions 1 and 2 (haproxy's proxy-protocol.txt), both ways.
// Promise: strict and bounded: a header that is not exactly what the specification says aborts the connection; whatever follows it is left
// untouched. Nothing is guessed about connections that send none: on a listener for the PROXY protocol the header is mandatory.
import { isIP } from 'node:net'
import { addressOctets, canonicalAddress } from '../net/ip.ts'

export interface ProxyAddress {
  readonly address: string
  readonly port: number
}

export type ProxyHeader =
  | { readonly kind: 'proxied'; readonly source: ProxyAddress; readonly length: number }
  /** v2 LOCAL (a health check), v1 UNKNOWN, or v2 with an unknown family: the address of the connection counts. */
  | { readonly kind: 'local'; readonly length: number }
  | { readonly kind: 'incomplete' }
  | { readonly kind: 'malformed'; readonly why: string }

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')
const V1_OCTETS = 107
const V2_OCTETS = 16 + 2048

function malformed(why: string): ProxyHeader {
  return { kind: 'malformed', why }
}

/** Looks at the octets at the start of a connection. `length` tells how many belong to the header. */
export function parseProxyHeader(bytes: Buffer): ProxyHeader {
  if (bytes.length === 0) return { kind: 'incomplete' }
  if (bytes[0] === SIGNATURE[0]) return parseV2(bytes)
  return parseV1(bytes)
}

// 2.1: "PROXY" SP ("TCP4"|"TCP6") SP source SP destination SP port SP port CRLF, 107 octets at most.
function parseV1(bytes: Buffer): ProxyHeader {
  const prefix = 'PROXY '
  const start = bytes.toString('latin1', 0, Math.min(bytes.length, prefix.length))
  if (!prefix.startsWith(start)) return malformed('no PROXY header')
  const lf = bytes.indexOf(0x0a)
  if (lf < 0) return bytes.length >= V1_OCTETS ? malformed('v1 header too long') : { kind: 'incomplete' }
  const length = lf + 1
  if (length > V1_OCTETS || bytes[lf - 1] !== 0x0d) return malformed('v1 header not ended by CRLF in time')
  const line = bytes.toString('latin1', 0, lf - 1)
  if (line === 'PROXY UNKNOWN' || line.startsWith('PROXY UNKNOWN ')) return { kind: 'local', length }
  // No zone id (`fe80::1%eth0`), which isIP would take.
  const match = /^PROXY TCP([46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) (\d{1,5}) (\d{1,5})$/.exec(line)
  const [, family, from = '', to = '', fromPort = '', toPort = ''] = match ?? []
  const version = Number(family)
  if (match === null || isIP(from) !== version || isIP(to) !== version) return malformed('v1 header with bad addresses')
  const port = portOf(fromPort)
  const address = canonicalAddress(from)
  if (port === undefined || portOf(toPort) === undefined || address === undefined)
    return malformed('v1 header with a bad port')
  return { kind: 'proxied', source: { address, port }, length }
}

// 2.1: no leading zeros, at most 65535.
function portOf(text: string): number | undefined {
  if (!/^(?:0|[1-9]\d{0,4})$/.test(text)) return undefined
  const port = Number(text)
  return port <= 65535 ? port : undefined
}

// 2.2: signature, version and command, family and protocol, length, addresses, TLVs (skipped).
function parseV2(bytes: Buffer): ProxyHeader {
  const known = Math.min(bytes.length, SIGNATURE.length)
  if (!bytes.subarray(0, known).equals(SIGNATURE.subarray(0, known))) return malformed('bad v2 signature')
  if (bytes.length < 16) return { kind: 'incomplete' }
  const command = bytes[12] ?? 0
  const family = bytes[13] ?? 0
  const length = 16 + bytes.readUInt16BE(14)
  if (command !== 0x20 && command !== 0x21) return malformed('v2 header with an unknown version or command')
  if (length > V2_OCTETS) return malformed('v2 header too long')
  if (bytes.length < length) return { kind: 'incomplete' }
  if (command === 0x20) return { kind: 'local', length }
  const body = bytes.subarray(16, length)
  // 0x11 TCP over IPv4, 0x21 TCP over IPv6; others cannot be an SMTP client's.
  if (family === 0x11) return body.length < 12 ? malformed('v2 header too short') : proxied(body, 4, length)
  if (family === 0x21) return body.length < 36 ? malformed('v2 header too short') : proxied(body, 16, length)
  return family === 0x00 ? { kind: 'local', length } : malformed('v2 header of another family than TCP')
}

function proxied(body: Buffer, octets: 4 | 16, length: number): ProxyHeader {
  const text =
    octets === 4
      ? [...body.subarray(0, 4)].join('.')
      : Array.from({ length: 8 }, (_, i) => body.readUInt16BE(i * 2).toString(16)).join(':')
  const address = canonicalAddress(text)
  if (address === undefined) return malformed('v2 header with a bad address')
  return { kind: 'proxied', source: { address, port: body.readUInt16BE(octets * 2) }, length }
}

/** The header that tells a backend who the client is. Both ends of one connection are of one family: of two, IPv6 is used. */
export function buildProxyHeader(version: 1 | 2, source: ProxyAddress, destination: ProxyAddress): Buffer {
  const six = isIP(source.address) === 6 || isIP(destination.address) === 6
  const from = six ? asSix(source.address) : source.address
  const to = six ? asSix(destination.address) : destination.address
  if (version === 1) {
    return Buffer.from(`PROXY TCP${six ? 6 : 4} ${from} ${to} ${source.port} ${destination.port}\r\n`, 'latin1')
  }
  const addresses = Buffer.concat([addressOctets(from), addressOctets(to)])
  const head = Buffer.alloc(4)
  head[0] = 0x21
  head[1] = six ? 0x21 : 0x11
  head.writeUInt16BE(addresses.length + 4, 2)
  const ports = Buffer.alloc(4)
  ports.writeUInt16BE(source.port, 0)
  ports.writeUInt16BE(destination.port, 2)
  return Buffer.concat([SIGNATURE, head, addresses, ports])
}

/** Version 2 LOCAL: the connection is our own, for nobody else. */
export function localProxyHeader(): Buffer {
  return Buffer.concat([SIGNATURE, Buffer.from([0x20, 0, 0, 0])])
}

function asSix(address: string): string {
  return isIP(address) === 6 ? address : `::ffff:${address}`
}
