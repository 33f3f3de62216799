// The certificate files of the configuration, read and tried out before anybody uses them.
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { LoadedConfig } from './config/load.ts'
import { ConfigError, pathText } from './config/problem.ts'
import type { BackendTls } from './proxy/backend-tls.ts'
import { type Identities, type Identity, makeContext } from './proxy/tls.ts'

/** Reads the files under `tls:`; undefined without that section. Throws ConfigError that names the setting. */
export async function readIdentities(loaded: LoadedConfig): Promise<Identities | undefined> {
  const { tls } = loaded.config
  if (tls === undefined) return undefined
  const main = await readIdentity(loaded, tls, ['tls'])
  const named = []
  for (const [i, entry] of tls.sni.entries()) {
    named.push({ ...(await readIdentity(loaded, entry, ['tls', 'sni', i])), names: entry.names })
  }
  return { main, named }
}

/** What `backend.tls…` says. Throws ConfigError where the file of authorities cannot be read. */
export async function readBackendTls(loaded: LoadedConfig): Promise<BackendTls> {
  const { tls = 'off', tls_ca: file, tls_fingerprints: shown = [] } = loaded.config.backend ?? {}
  const ca = file === undefined ? undefined : await readPem(loaded, file, ['backend', 'tls_ca'])
  return { mode: tls, ca, fingerprints: shown.map((text) => text.replaceAll(':', '').toLowerCase()) }
}

type SettingPath = readonly (string | number)[]

async function readIdentity(
  loaded: LoadedConfig,
  files: { readonly certificate: string; readonly key: string },
  path: SettingPath,
): Promise<Identity> {
  const certificate = await readPem(loaded, files.certificate, [...path, 'certificate'])
  const key = await readPem(loaded, files.key, [...path, 'key'])
  try {
    if (!new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key))) {
      throw new Error('the key is not the one of the certificate')
    }
    makeContext({ certificate, key })
  } catch (error) {
    throw problem(loaded, path, `certificate and key cannot be used: ${messageOf(error)}`)
  }
  return { certificate, key }
}

async function readPem(loaded: LoadedConfig, file: string, path: SettingPath): Promise<string> {
  try {
    return await readFile(resolve(loaded.baseDir, file), 'utf8')
  } catch (error) {
    throw problem(loaded, path, messageOf(error))
  }
}

function problem(loaded: LoadedConfig, path: SettingPath, message: string): ConfigError {
  const where = loaded.where(path)
  return new ConfigError([{ path: pathText(path), message, ...(where === undefined ? {} : { where }) }])
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
