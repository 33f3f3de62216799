// TLS towards a backend: when it is used, whom it trusts, and the handshake.
// Promise: `required` sends no mail without TLS to a server that proves who it is, by a certificate authority or by the fingerprint of its
// certificate; `opportunistic` encrypts where the server offers it and asks for no proof. A handshake that fails ends the connection: going on
// in clear would be what an attacker in between wants.
import { isIP } from 'node:net'
import type { Duplex } from 'node:stream'
import { connect, type TLSSocket } from 'node:tls'
import type { Clock } from '../net/clock.ts'

export interface BackendTls {
  readonly mode: 'off' | 'opportunistic' | 'required'
  /** Certificates of authorities (PEM); the system's where there are none. */
  readonly ca: string | undefined
  /** SHA-256 fingerprints of certificates, lower-case hexadecimal without colons; any of them is proof enough. */
  readonly fingerprints: readonly string[]
}

export interface HandshakeOptions {
  readonly host: string
  readonly tls: BackendTls
  readonly timeout: number
  readonly clock: Clock
}

/** The client's side of the handshake on a stream that nobody reads any more. Rejects with an Error that says why. */
export function handshake(stream: Duplex, { host, tls, timeout, clock }: HandshakeOptions): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const secure = connect({
      socket: stream,
      minVersion: 'TLSv1.2',
      // Judged below: a fingerprint needs no authority, and opportunistic TLS needs none either.
      rejectUnauthorized: false,
      ...(isIP(host) === 0 ? { servername: host } : { host }),
      ...(tls.ca === undefined ? {} : { ca: tls.ca }),
    })
    const failed = (error: Error) => {
      timer.clear()
      secure.destroy()
      reject(error)
    }
    const closed = () => failed(new Error('closed during the TLS handshake'))
    const timer = clock.timer(timeout, () => failed(new Error('TLS handshake took too long')))
    secure.once('error', failed)
    secure.once('close', closed)
    secure.once('secureConnect', () => {
      const distrust = tls.mode === 'required' ? reasonForDistrust(secure, tls) : undefined
      if (distrust !== undefined) {
        failed(new Error(distrust))
        return
      }
      timer.clear()
      secure.off('error', failed)
      secure.off('close', closed)
      resolve(secure)
    })
  })
}

function reasonForDistrust(secure: TLSSocket, { fingerprints }: BackendTls): string | undefined {
  if (fingerprints.length > 0) {
    const shown = secure.getPeerCertificate().fingerprint256?.replaceAll(':', '').toLowerCase() ?? ''
    return fingerprints.includes(shown) ? undefined : `its certificate has another fingerprint (${shown})`
  }
  return secure.authorized ? undefined : `its certificate is not trusted (${String(secure.authorizationError)})`
}
