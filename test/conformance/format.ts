// The vocabulary of a case file: every step, backend rule, check and setting, with the shape of its argument.
// Promise: whatever is not in these tables makes the case an error with a name. A step that is passed over in silence would be a case that
// proves nothing.
// Not taken: one big schema of the whole file. One bad case would then take the other cases with it.
import { z } from 'zod'

/** Patterns are ECMAScript, flag m, searched anywhere. */
const pattern = z.string().transform((text, ctx) => {
  try {
    return new RegExp(text, 'm')
  } catch (error) {
    ctx.addIssue({ code: 'custom', message: `not a regular expression: ${String(error)}` })
    return z.NEVER
  }
})

const oneOrMore = <T extends z.ZodType>(item: T) => z.union([item.transform((one) => [one]), z.array(item)])
const patterns = oneOrMore(pattern)
/** `times: "${N}"` is a number too, once `for_each` has filled it in. */
const numeric = z.string().regex(/^\d+$/, { error: 'expected a number' }).transform(Number)
const amount = z.union([z.int().min(0), numeric])
const positive = amount.refine((n) => n > 0, { error: 'expected a number above 0' })
const flag = z.literal(true)

const hex = z
  .string()
  .regex(/^(\s*[0-9a-f]{2})*\s*$/i, { error: 'expected pairs of hexadecimal digits' })
  .transform((text) => Buffer.from(text.replace(/\s+/g, ''), 'hex'))

const tlsVersion = z
  .union([z.string(), z.number().transform((n) => n.toFixed(1))])
  .pipe(z.enum(['1.0', '1.1', '1.2', '1.3']))
const tlsStep = z.strictObject({
  min: tlsVersion.optional(),
  max: tlsVersion.optional(),
  sni: z.string().optional(),
  peer_san: z.string().optional(),
  result: z.enum(['ok', 'fail', 'any']).default('ok'),
  only_if: pattern.optional(),
})

const generated = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('nested_multipart'),
    depth: amount.default(100),
    parts: positive.default(1),
    size: amount.default(0),
  }),
  z.strictObject({
    kind: z.literal('dkim_signed'),
    canon: z
      .string()
      .regex(/^(simple|relaxed)\/(simple|relaxed)$/)
      .default('relaxed/relaxed'),
  }),
])

/** What `expect_eventually` can wait for. `accept`: a new connection to the gateway is greeted. */
export const HARNESS_EVENTS = [
  'backend_connect',
  'backend_ehlo',
  'backend_mail',
  'backend_rcpt',
  'backend_data',
  'backend_body',
  'backend_dot',
  'backend_message',
  'backend_rset',
  'backend_quit',
  'backend_aborted',
  'backend_closed',
  'accept',
  'proxy_exit',
] as const
export type HarnessEvent = (typeof HARNESS_EVENTS)[number]

/** All steps but `use`, which is spliced while the file is read. */
export const stepArguments = {
  send: z.string(),
  send_hex: hex,
  send_repeat: z.strictObject({ data: z.string(), times: amount }),
  send_chunks: z.strictObject({ data: z.string(), size: positive, gap_ms: amount.default(0) }),
  send_generated: generated,
  expect: pattern,
  expect_each: z.array(pattern).min(1),
  expect_each_n: z.strictObject({ n: positive, re: pattern }),
  expect_each_until_close: z.strictObject({ re: pattern, last: pattern }),
  expect_or_close: pattern,
  expect_close: flag,
  expect_silence_ms: amount,
  expect_lines: z.strictObject({ all: z.array(pattern).default([]), none: z.array(pattern).default([]) }),
  expect_eventually: z.strictObject({ event: z.enum(HARNESS_EVENTS), within_ms: amount.default(5000) }),
  starttls: tlsStep,
  tls: tlsStep,
  close: flag,
  rst: flag,
  half_close: flag,
  wait_ms: amount,
  signal: z.enum(['TERM', 'KILL']),
  reconnect: z.strictObject({
    n: positive.default(1),
    keep: z.boolean().default(false),
    source: z.string().optional(),
  }),
} as const

export type StepKind = keyof typeof stepArguments
export type StepArgument<K extends StepKind> = z.output<(typeof stepArguments)[K]>

/** Any step may carry these beside its own key. */
export const stepModifiers = z.strictObject({
  timeout_ms: amount.optional(),
  may_fail: z.boolean().optional(),
  only_if: pattern.optional(),
})
export type StepModifiers = z.output<typeof stepModifiers>

export const BACKEND_MOMENTS = [
  'CONNECT',
  'EHLO',
  'MAIL',
  'RCPT',
  'DATA',
  'BODY',
  'EOD',
  'RSET',
  'QUIT',
  'STARTTLS',
] as const
export type BackendMoment = (typeof BACKEND_MOMENTS)[number]

const nth = positive.optional()
const actionRule = z
  .strictObject({
    at: z.enum(BACKEND_MOMENTS),
    nth,
    do: z.enum(['reply', 'reply_repeat', 'drop', 'rst', 'hang', 'delay', 'close_after_reply']),
    reply: z.string().optional(),
    ms: amount.optional(),
    times: positive.optional(),
    after_bytes: amount.optional(),
  })
  .superRefine((rule, ctx) => {
    const needsReply = rule.do === 'reply' || rule.do === 'reply_repeat' || rule.do === 'close_after_reply'
    if (needsReply && rule.reply === undefined) ctx.addIssue({ code: 'custom', message: `${rule.do} needs a reply` })
    if (rule.do === 'delay' && rule.ms === undefined) ctx.addIssue({ code: 'custom', message: 'delay needs ms' })
  })
export type ActionRule = z.output<typeof actionRule>

const ehloRule = z.strictObject({ ehlo_lines: z.array(z.string()), nth })
export type EhloRule = z.output<typeof ehloRule>

export const backendRules = z.array(z.union([ehloRule, actionRule])).default([])
export type BackendRule = EhloRule | ActionRule

const counted = z.union([amount, z.strictObject({ min: amount.optional(), max: amount.optional() })])
export type Counted = z.output<typeof counted>

export const checks = z
  .strictObject({
    backend: z
      .strictObject({
        messages: counted.optional(),
        transactions: counted.optional(),
        aborted: z.boolean().optional(),
        rcpts: z.array(z.array(z.string())).optional(),
        mail_from_not: oneOrMore(z.string()).optional(),
        raw: patterns.optional(),
        raw_not: patterns.optional(),
        content: oneOrMore(z.string()).optional(),
        content_re: patterns.optional(),
        content_not: patterns.optional(),
        dkim_verifies: z.boolean().optional(),
      })
      .optional(),
    log: z
      .strictObject({
        re: patterns.optional(),
        not: patterns.optional(),
        single_line: z.union([flag, pattern]).optional(),
      })
      .optional(),
    proxy: z
      .strictObject({ alive: z.boolean().optional(), rss_growth_mb_max: z.number().positive().optional() })
      .optional(),
  })
  .default({})
export type Checks = z.output<typeof checks>

/** The abstract settings of `proxy:`; adapter.ts says what each is called in Postern. */
export const proxySettings = z.strictObject({
  max_size: amount.default(1048576),
  max_rcpt: positive.default(100),
  idle_timeout_ms: amount.default(3000),
  data_timeout_ms: amount.default(5000),
  max_errors: positive.default(20),
  max_junk: positive.optional(),
  max_conn_per_ip: positive.optional(),
  max_received: positive.optional(),
  max_unknown_rcpt: positive.optional(),
  greet_delay_ms: amount.optional(),
  scanner: z.enum(['up', 'down', 'hang']).optional(),
  on_scanner_failure: z.enum(['tempfail', 'defer', 'accept', 'pass', 'skip']).optional(),
  spool: z.enum(['full_disk']).optional(),
  spool_after: amount.optional(),
  authserv_id: z.string().optional(),
  dns: z.record(z.string(), z.string()).optional(),
  chunking: z.boolean().optional(),
  auth_max_failures: positive.optional(),
  bare_newline: z.enum(['normalize', 'reject']).optional(),
})
export type ProxySettings = z.output<typeof proxySettings>

export const PROFILES = [
  'mx',
  'submission',
  'submissions',
  'mx_require_tls',
  'mx_trusted',
  'mx_pp',
  'mx_pp_untrusted',
  'mx_notlscert',
] as const
export type Profile = (typeof PROFILES)[number]

export const caseHead = z.strictObject({
  id: z.string().min(1),
  title: z.string(),
  rfc: z.string().optional(),
  area: z.string(),
  profile: z.enum(PROFILES),
  strength: z.enum(['must', 'pin']),
  steps: z.array(z.unknown()).min(1),
  check: z.unknown().optional(),
  backend: z.unknown().optional(),
  proxy: z.unknown().optional(),
  for_each: z
    .record(z.string(), z.array(z.union([z.string(), z.number(), z.boolean()]).transform(String)).min(1))
    .optional(),
  notes: z.string().optional(),
})
