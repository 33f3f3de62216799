// Test certificates, made when the first case asks for one: self-signed, for mx.example.com and loopback, good for two days.
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

export interface Certificate {
  readonly certificate: string
  readonly key: string
  readonly certificateFile: string
  readonly keyFile: string
}

/** One certificate for everything of a run; `openssl` must be on the path. */
export class CertificateMaker {
  readonly #folder: string
  #made: Promise<Certificate> | undefined

  constructor(folder: string) {
    this.#folder = folder
  }

  get(): Promise<Certificate> {
    this.#made ??= this.#make()
    return this.#made
  }

  async #make(): Promise<Certificate> {
    const certificateFile = join(this.#folder, 'certificate.pem')
    const keyFile = join(this.#folder, 'key.pem')
    const names = 'subjectAltName=DNS:mx.example.com,DNS:localhost,IP:127.0.0.1'
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-noenc', '-keyout', keyFile]
    const request = ['req', '-x509', ...key, '-out', certificateFile, '-days', '2']
    await promisify(execFile)('openssl', [...request, '-subj', '/CN=mx.example.com', '-addext', names])
    return {
      certificateFile,
      keyFile,
      certificate: await readFile(certificateFile, 'utf8'),
      key: await readFile(keyFile, 'utf8'),
    }
  }
}
