// From the abstract profile and settings of a case to a configuration of Postern. The only file that knows both languages.
// Settings of a feature are written only where the feature is built, or where the case at hand needs it (`--all`): an unknown setting
// would stop the gateway at its start.
import { fileURLToPath } from 'node:url'
import type { TestCase, Variant } from './case-file.ts'
import type { Certificate } from './certificates.ts'
import type { Feature } from './waits.ts'

export const HOSTNAME = 'mx.example.com'

export interface Surroundings {
  readonly port: number
  readonly backendPort: number
  readonly dataDir: string
  readonly features: ReadonlySet<Feature>
  readonly certificate: () => Promise<Certificate>
}

type Section = Record<string, unknown>

const VERDICT_FILTER = fileURLToPath(new URL('../support/verdict-filter.ts', import.meta.url))
const FULL_DISK = new URL('../support/full-disk.ts', import.meta.url)

// Loopback in whole: `reconnect: {source}` uses other addresses of it.
const TRUSTED = ['127.0.0.0/8']
const NOT_THE_SUITE = ['192.0.2.1/32']

/** The configuration as an object: what stands in postern.yaml. */
export async function configFor(testCase: TestCase, variant: Variant, around: Surroundings): Promise<Section> {
  const { proxy } = variant
  const needsCertificate = around.features.has('tls') && testCase.profile !== 'mx_notlscert'
  return {
    hostname: proxy.authserv_id ?? HOSTNAME,
    listeners: [listener(testCase, variant, around)],
    ...(needsCertificate ? { tls: tlsFiles(await around.certificate()) } : {}),
    domains: ['example.com'],
    backend: backend(testCase, around),
    data_dir: around.dataDir,
    admin: { address: 'off' },
    log: { level: 'debug', format: 'json' },
    limits: limits(variant, around.features),
    plugins: [VERDICT_FILTER],
    filters: { test_verdict: verdictFilter(variant) },
    ...(proxy.dns === undefined ? {} : dnsNotSupported()),
  }
}

/** Options for node itself: `spool: full_disk` breaks the disk from inside the process. */
export function nodeOptions(variant: Variant): readonly string[] {
  return variant.proxy.spool === 'full_disk' ? ['--import', FULL_DISK.href] : []
}

function tlsFiles(made: Certificate): Section {
  return { certificate: made.certificateFile, key: made.keyFile }
}

function listener(testCase: TestCase, variant: Variant, around: Surroundings): Section {
  const { features } = around
  const starttls = features.has('tls') ? { tls: 'starttls' } : {}
  const common: Section = {
    name: 'mx',
    address: `127.0.0.1:${around.port}`,
    kind: 'mx',
    ...(variant.proxy.bare_newline === undefined ? {} : { bare_newline: variant.proxy.bare_newline }),
    ...(features.has('chunking') && variant.proxy.chunking !== undefined ? { chunking: variant.proxy.chunking } : {}),
  }
  switch (testCase.profile) {
    case 'mx':
      return { ...common, ...starttls }
    case 'mx_notlscert':
      return common
    case 'mx_require_tls':
      return { ...common, tls: 'required' }
    case 'submission':
      return { ...common, name: 'submission', kind: 'submission', tls: 'starttls' }
    case 'submissions':
      return { ...common, name: 'submissions', kind: 'submission', tls: 'implicit' }
    case 'mx_trusted':
      return { ...common, ...starttls, xclient_from: TRUSTED }
    case 'mx_pp':
      return { ...common, ...starttls, proxy_protocol_from: TRUSTED }
    case 'mx_pp_untrusted':
      return { ...common, ...starttls, proxy_protocol_from: NOT_THE_SUITE }
  }
}

function backend(testCase: TestCase, around: Surroundings): Section {
  const { features } = around
  const identity = features.has('xclient') || features.has('proxy_protocol')
  const tells = identity && ['mx_trusted', 'mx_pp', 'mx_pp_untrusted'].includes(testCase.profile)
  return {
    servers: [`127.0.0.1:${around.backendPort}`],
    ...(tells ? { client_address: 'auto' } : {}),
    ...(features.has('backend_tls') ? { tls: 'opportunistic' } : {}),
  }
}

function limits({ proxy }: Variant, features: ReadonlySet<Feature>): Section {
  const named: readonly (readonly [string, number | string | undefined])[] = [
    ['message_size', proxy.max_size],
    ['recipients', proxy.max_rcpt],
    ['unknown_recipients', proxy.max_unknown_rcpt],
    ['received', proxy.max_received],
    ['errors', proxy.max_errors],
    ['junk_commands', proxy.max_junk],
    ['connections_per_address', proxy.max_conn_per_ip],
    ['idle', `${proxy.idle_timeout_ms}ms`],
    ['data_time', `${proxy.data_timeout_ms}ms`],
    ['memory_per_message', proxy.spool_after],
    ['auth_failures', features.has('auth') ? proxy.auth_max_failures : undefined],
  ]
  return Object.fromEntries(named.filter(([, value]) => value !== undefined))
}

/** The scanner of the abstract settings is the plugin of the suite. */
function verdictFilter({ proxy }: Variant): Section {
  const failure = proxy.on_scanner_failure
  const closed = failure === undefined || failure === 'tempfail' || failure === 'defer'
  return {
    enabled: true,
    // Longer than any `slow:` of a case; a scanner that hangs is given up soon.
    timeout: proxy.scanner === 'hang' ? '1s' : '50s',
    on_failure: closed ? 'defer' : 'skip',
    ...(proxy.scanner === 'down' ? { down: true } : {}),
    ...(proxy.scanner === 'hang' ? { hang: true } : {}),
    ...(proxy.greet_delay_ms === undefined ? {} : { greet_delay: proxy.greet_delay_ms }),
  }
}

function dnsNotSupported(): never {
  throw new Error('`proxy: {dns: …}` needs a DNS server of the suite, which comes with issue 4')
}
