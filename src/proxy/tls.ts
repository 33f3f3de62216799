// TLS towards clients: certificates by name, and the handshake.
// Promise: TLS 1.2 at least (RFC 8996), a handshake that fails or stalls ends in bounded time, and a new certificate is tried before it is
// taken: the old one stays where it cannot be used. Each listener has contexts of its own, so session tickets of one are worth nothing at
// another.
import type { Duplex } from 'node:stream'
import { createSecureContext, type SecureContext, TLSSocket } from 'node:tls'
import type { Clock } from '../net/clock.ts'

/** A certificate chain and its key, as PEM text. */
export interface Identity {
  readonly certificate: string
  readonly key: string
}

export interface NamedIdentity extends Identity {
  /** Host names in lower case; `*.example.org` stands for one label. */
  readonly names: readonly string[]
}

export interface Identities {
  readonly main: Identity
  readonly named: readonly NamedIdentity[]
}

export interface SecureFacts {
  /** `TLSv1.3` */
  readonly protocol: string
  readonly cipher: string
}

// Mozilla's intermediate list (forward secrecy and AEAD only); TLS 1.3 has its own.
const CIPHERS = [
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
  'DHE-RSA-AES128-GCM-SHA256',
  'DHE-RSA-AES256-GCM-SHA384',
].join(':')

/** Throws where certificate and key cannot be used together. */
export function makeContext({ certificate, key }: Identity): SecureContext {
  return createSecureContext({ cert: certificate, key, minVersion: 'TLSv1.2', ciphers: TLS13 + CIPHERS })
}

const TLS13 = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:'

interface Contexts {
  readonly main: SecureContext
  readonly byName: ReadonlyMap<string, SecureContext>
}

export class TlsTerminator {
  #contexts: Contexts

  /** Throws where an identity cannot be used. */
  constructor(identities: Identities) {
    this.#contexts = build(identities)
  }

  /** Takes new certificates for the handshakes to come. Throws, and keeps the old ones, where one cannot be used. */
  replace(identities: Identities): void {
    this.#contexts = build(identities)
  }

  /** The server's side of the handshake on a stream that nobody reads any more. Rejects where it fails or takes too long. */
  accept(stream: Duplex, { clock, timeout }: { clock: Clock; timeout: number }): Promise<TLSSocket> {
    const contexts = this.#contexts
    const secure = new TLSSocket(stream, {
      isServer: true,
      secureContext: contexts.main,
      SNICallback: (name, done) => done(null, contextFor(contexts, name)),
    })
    return new Promise((resolve, reject) => {
      const timer = clock.timer(timeout, () => failed(new Error('handshake took too long')))
      const failed = (error: Error) => {
        timer.clear()
        secure.destroy()
        reject(error)
      }
      const closed = () => failed(new Error('closed during the handshake'))
      secure.once('error', failed)
      // On a half-open socket a client that leaves in the middle shows only as the end of its octets.
      secure.once('end', closed)
      secure.once('close', closed)
      secure.once('secure', () => {
        timer.clear()
        secure.off('error', failed)
        secure.off('end', closed)
        secure.off('close', closed)
        resolve(secure)
      })
    })
  }
}

export function factsOf(secure: TLSSocket): SecureFacts {
  return { protocol: secure.getProtocol() ?? 'unknown', cipher: secure.getCipher()?.standardName ?? 'unknown' }
}

function build({ main, named }: Identities): Contexts {
  const byName = new Map<string, SecureContext>()
  for (const identity of named) {
    const context = makeContext(identity)
    for (const name of identity.names) byName.set(name.toLowerCase(), context)
  }
  return { main: makeContext(main), byName }
}

function contextFor({ main, byName }: Contexts, name: string): SecureContext {
  const wanted = name.toLowerCase()
  return byName.get(wanted) ?? byName.get(wanted.replace(/^[^.]+/, '*')) ?? main
}
