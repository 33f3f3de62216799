// Every setting of Postern: type, default and one line of documentation, declared once. The table of the README and the errors of `check`
// are made from it. Names are fixed by section 7 of the design: they may be added to, never changed.
// Not taken: accepting values of features that are not built yet. A setting that does nothing is a lie to the operator: where only one value
// is built, only that one is taken.
import { hostname } from 'node:os'
import { z } from 'zod'
import { cidr, count, duration, hostPort, size } from './values.ts'

const HOST_NAME = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/i

const listener = z.strictObject({
  name: z
    .string()
    .regex(/^[a-z][a-z0-9_-]{0,31}$/, { error: 'expected a short lower-case name' })
    .describe('Name in logs and metrics'),
  address: hostPort().describe('Where to listen'),
  kind: z
    .enum(['mx', 'submission'])
    .default('mx')
    .describe('mx: mail from strangers; submission: mail from own users, who log in at the backend through TLS'),
  tls: z
    .enum(['off', 'starttls', 'required', 'implicit'])
    .optional()
    .describe(
      'TLS towards clients; starttls where there is a certificate, else off; required: no mail without it; implicit: from the first octet',
    ),
  proxy_protocol_from: z
    .array(cidr())
    .default([])
    .describe(
      'Load balancers: they must begin with a PROXY header (v1 or v2), and nobody else may connect. Empty: none',
    ),
  xclient_from: z.array(cidr()).default([]).describe('Servers that may say with XCLIENT or XFORWARD who the client is'),
  chunking: z.boolean().default(true).describe('Offer CHUNKING (BDAT)'),
  bare_newline: z
    .enum(['normalize', 'reject'])
    .default('normalize')
    .describe(
      'A bare LF away from dot lines is made CRLF, or refused with 550 5.5.2; bare CR and NUL are always refused',
    ),
})

const maildir = z.strictObject({
  path: z.string().min(1).describe('Folder of the Maildir; made if it is missing'),
})

const backend = z
  .strictObject({
    servers: z.array(hostPort()).min(1).optional().describe('The servers behind the gateway, in order of preference'),
    balance: z.enum(['failover']).default('failover').describe('How to choose among the servers'),
    client_address: z
      .enum(['auto', 'xclient', 'proxy-v1', 'proxy-v2', 'none'])
      .default('auto')
      .describe("How the backend learns the client's address; auto: by XCLIENT where it is offered"),
    tls: z
      .enum(['off', 'opportunistic', 'required'])
      .default('opportunistic')
      .describe(
        'TLS towards the backend; opportunistic: where it is offered, with any certificate; required: and proven',
      ),
    tls_ca: z.string().min(1).optional().describe('File with the certificates that prove it (PEM); else the system’s'),
    tls_fingerprints: z
      .array(z.string().regex(/^(?:[0-9a-f]{2}:?){31}[0-9a-f]{2}$/i, { error: 'expected a SHA-256 fingerprint' }))
      .default([])
      .describe('SHA-256 fingerprints of certificates that prove it, in place of an authority'),
    connections: count(1).default(50).describe('Connections to one server at most'),
    idle: duration().prefault('20s').describe('How long an unused connection is kept for the next message'),
    maildir: maildir.optional().describe('Write to a Maildir instead of a server'),
  })
  .refine((b) => (b.servers === undefined) !== (b.maildir === undefined), {
    error: 'give either servers or maildir',
  })

const limits = z.strictObject({
  message_size: size('1KiB').prefault('50MiB').describe('Largest message: 552 5.3.4'),
  memory_per_message: size().prefault('256KiB').describe('A message above this size goes to an unlinked spool file'),
  spool_reserve: size().prefault('64MiB').describe('Free space to keep in data_dir: 452 4.3.1 at MAIL'),
  recipients: count(1).default(100).describe('Recipients of one message: 452 4.5.3'),
  unknown_recipients: count(1).default(50).describe('Recipients refused by the backend in one session: 421 4.7.1'),
  header_size: size('1KiB').prefault('256KiB').describe('Header of a message: 552 5.3.4'),
  header_fields: count(1).default(1000).describe('Fields in the header: 552 5.3.4'),
  received: count(1).default(50).describe('Received fields (a loop): 554 5.4.6'),
  line_length: size('1000').prefault('64KiB').describe('A line inside a message: 554 5.6.0'),
  command_line: size('512').prefault('2048').describe('A command line, CRLF included: 500 5.5.2'),
  errors_soft: count(0).default(10).describe('Errors of a session before each answer waits one second'),
  errors: count(1).default(20).describe('Errors of a session: 421 4.7.0'),
  junk_commands: count(1).default(100).describe('NOOP, RSET, VRFY, HELP, EHLO between two messages: 421 4.7.0'),
  auth_failures: count(1).default(3).describe('Failed logins of one session: 421 4.7.0'),
  auth_failures_per_address: count(1)
    .default(20)
    .describe('Failed logins in ten minutes of one address, or to one account: 454 4.7.0'),
  connections: count(1).default(1000).describe('Connections in all: 421 4.3.2'),
  connections_per_address: count(1).default(20).describe('Connections of one IPv4 address or IPv6 /64: 421 4.7.0'),
  idle: duration('100ms').prefault('5m').describe('Waiting for a command or for more of a message: 421 4.4.2'),
  data_rate: count(0)
    .default(500)
    .describe('Octets a second that a message must come in with, after a minute of credit: 421 4.4.2'),
  data_time: duration('100ms').prefault('30m').describe('Longest time for one message to come in: 421 4.4.2'),
  end_of_data: duration('100ms').prefault('60s').describe('Longest time for all filters at end of data'),
  backend_connect: duration('100ms')
    .prefault('10s')
    .describe('Connecting to the backend, until its greeting and EHLO are through'),
  backend_command: duration('100ms')
    .prefault('5m')
    .describe('Waiting for the backend before the dot (RFC 5321 4.5.3.2)'),
  backend_dot: duration('100ms').prefault('10m').describe('Waiting for the backend after the dot'),
  stop_grace: duration()
    .prefault('30s')
    .describe('How long a message that is coming in may go on when the gateway stops'),
})

/** What every filter has beside its own options. */
export const filterCommon = {
  enabled: z.boolean().describe('Whether the filter runs'),
  mode: z.enum(['enforce', 'shadow']).default('enforce').describe('shadow: runs and is logged, without effect'),
  timeout: duration('1ms').prefault('5s').describe('Longest time for one answer'),
  on_failure: z.enum(['skip', 'defer']).default('skip').describe('A failure is passed over, or answered 451'),
  listeners: z.array(z.string()).optional().describe('Only on these listeners'),
}

/** `filters:` is checked in a second step, by the filter that a section belongs to: plugins bring their own options. */
const filters = z.record(z.string(), z.record(z.string(), z.unknown()).nullable())

export const configSchema = z
  .strictObject({
    hostname: z
      .string()
      .regex(HOST_NAME, { error: 'expected a host name' })
      .default(() => defaultHostname())
      .describe('Name in the greeting, in Received and as authserv-id'),
    listeners: z
      .array(listener)
      .min(1)
      .refine((list) => new Set(list.map((l) => l.name)).size === list.length, { error: 'two listeners have one name' })
      .prefault([{ name: 'mx', address: '0.0.0.0:25' }])
      .describe('Where clients connect'),
    tls: z
      .strictObject({
        certificate: z.string().min(1).describe('File with the certificate chain (PEM)'),
        key: z.string().min(1).describe('File with its key (PEM)'),
        sni: z
          .array(
            z.strictObject({
              names: z.array(z.string().min(1)).min(1).describe('Host names; `*.example.org` stands for one label'),
              certificate: z.string().min(1).describe('File with the certificate chain'),
              key: z.string().min(1).describe('File with its key'),
            }),
          )
          .default([])
          .describe('Other certificates, by the name that the client asks for'),
      })
      .optional()
      .describe('The certificate for clients'),
    domains: z
      .array(z.string().min(1))
      .default([])
      .describe('Domains that mail is taken for; `file:NAME` reads a list. Empty: none'),
    relay_networks: z.array(cidr()).default([]).describe('Clients that may relay to anywhere. Empty: none'),
    exempt_recipients: z
      .array(z.string().regex(/^[^@\s]+@[^@\s]*$/, { error: 'expected local-part@ or a whole address' }))
      .default(['postmaster@', 'abuse@'])
      .describe('Reachable even for clients that are refused: `local-part@` or a whole address'),
    backend: backend.optional().describe('The mail server behind the gateway; without one a Maildir under data_dir'),
    maildir: maildir.optional().describe('Short for `backend: {maildir: …}`'),
    data_dir: z.string().min(1).default('./data').describe('Folder for spool files and the default Maildir'),
    rules_dir: z.string().min(1).optional().describe('Your own scores.yaml, laid over the shipped one'),
    actions: z
      .strictObject({
        tag: z.number().default(5).describe('Score from which a message is marked X-Spam-Flag: YES'),
        defer: z.number().optional().describe('Score from which a message is deferred (451); unset: never'),
        reject: z.number().default(12).describe('Score from which a message is refused (550)'),
      })
      .prefault({})
      .describe('What the score does'),
    limits: limits.prefault({}).describe('What a client may use up; over it the reply named here'),
    filters: filters.default({}).describe('Settings of the filters, by name'),
    plugins: z.array(z.string().min(1)).default([]).describe('Modules with filters of your own'),
    admin: z
      .strictObject({
        address: z
          .union([hostPort(), z.literal('off')])
          .prefault('127.0.0.1:8025')
          .describe('/metrics /healthz /readyz; `off`: not at all'),
      })
      .prefault({})
      .describe('The admin server'),
    log: z
      .strictObject({
        level: z.enum(['debug', 'info', 'warn', 'error']).default('info').describe('Least level that is written'),
        format: z.enum(['auto', 'json', 'pretty']).default('auto').describe('auto: pretty on a terminal, else json'),
      })
      .prefault({})
      .describe('The log, on standard error'),
  })
  .refine((c) => c.backend === undefined || c.maildir === undefined, {
    error: 'give either backend or maildir',
    path: ['maildir'],
  })

/** The configuration as the rest of the program sees it: complete, checked, durations in milliseconds, sizes in octets. */
export type Config = z.output<typeof configSchema>
export type Limits = Config['limits']
export type ListenerConfig = Config['listeners'][number]
export type BackendConfig = NonNullable<Config['backend']>

function defaultHostname(): string {
  const name = hostname()
  // A greeting needs a proper name with a dot; a bare container name gets one that is honest about being local.
  if (!HOST_NAME.test(name)) return 'localhost.localdomain'
  return name.includes('.') ? name : `${name}.localdomain`
}
