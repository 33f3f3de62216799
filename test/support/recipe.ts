// The recipe of the README's section on Postfix, taken from there: what is tested is what people copy.
import { readFileSync } from 'node:fs'
import { parse } from 'yaml'

export interface Recipe {
  /** The lines of master.cf, for this port instead of theirs. */
  service(port: number): string
  /** Its postern.yaml without what names a place: ports and folders. */
  readonly config: Readonly<Record<string, unknown>>
  /** Whose mail it takes. */
  readonly domain: string
}

interface Yaml {
  readonly listeners: unknown
  readonly data_dir: unknown
  readonly backend: { readonly servers: readonly string[] }
  readonly domains: readonly string[]
}

export function readRecipe(): Recipe {
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')
  const section = /^## Five minutes to Postfix\n(.*?)^## /ms.exec(readme)?.[1] ?? ''
  const master = /^```\n(.*?)^```\n/ms.exec(section)?.[1]
  const yaml = /^```yaml\n(.*?)^```\n/ms.exec(section)?.[1]
  const address = /^(\S+) inet .* smtpd\n/.exec(master ?? '')?.[1]
  if (master === undefined || yaml === undefined || address === undefined) throw new Error('no recipe in README.md')
  const { listeners: _, data_dir: __, backend, ...config } = parse(yaml) as Yaml
  if (backend.servers[0] !== address) throw new Error('the recipe: Postfix listens where Postern does not connect to')
  return {
    service: (port) => master.replace(address, `127.0.0.1:${port}`).trimEnd(),
    config,
    domain: config.domains[0] ?? '',
  }
}
