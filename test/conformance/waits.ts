// Which cases need a part of the gateway that is not built yet, and which issue brings it.
// This table is edited by hand: when a feature is built, set `built: true`. From then on its cases are run, and adapter.ts writes its
// settings. What a case needs is read off the case itself, so that this works for case files that are not ours.
// Not taken: a list of case numbers. It would know nothing of a case that is added tomorrow.
import type { TestCase, Variant } from './case-file.ts'

export const FEATURES = {
  tls: { issue: 3, built: true, what: 'STARTTLS and TLS listeners' },
  auth: { issue: 3, built: true, what: 'submission listeners with AUTH' },
  xclient: { issue: 3, built: true, what: 'XCLIENT from trusted clients' },
  proxy_protocol: { issue: 3, built: true, what: 'the PROXY protocol' },
  chunking: { issue: 3, built: true, what: 'CHUNKING (BDAT)' },
  dsn: { issue: 3, built: true, what: 'the parameters of DSN' },
  smtputf8: { issue: 3, built: true, what: 'SMTPUTF8' },
  backend_tls: { issue: 3, built: true, what: 'TLS towards the backend' },
  dns: { issue: 4, built: false, what: 'look-ups in the DNS' },
  authentication_results: { issue: 5, built: false, what: 'results of our own in Authentication-Results' },
  dispositions: { issue: 5, built: false, what: 'the verdicts discard and quarantine' },
} satisfies Record<string, { readonly issue: number; readonly built: boolean; readonly what: string }>

export type Feature = keyof typeof FEATURES

/** The features that this working copy has. */
export function builtFeatures(): ReadonlySet<Feature> {
  return new Set(featureNames().filter((name) => FEATURES[name].built))
}

/** Why the case cannot run yet: `waits for issue 3, because …`; undefined where it can. */
export function waitingReason(testCase: TestCase): string | undefined {
  const needed = neededFeatures(testCase)
  const missing = featureNames().filter((name) => needed.has(name) && !FEATURES[name].built)
  if (missing.length === 0) return undefined
  const issue = Math.max(...missing.map((name) => FEATURES[name].issue))
  return `waits for issue ${issue}, because it needs ${missing.map((name) => FEATURES[name].what).join(', ')}`
}

export function neededFeatures(testCase: TestCase): ReadonlySet<Feature> {
  const needed = new Set<Feature>()
  for (const variant of testCase.variants) {
    const texts = new CaseTexts(variant)
    for (const name of featureNames()) if (NEEDS[name](testCase, variant, texts)) needed.add(name)
  }
  return needed
}

type Need = (testCase: TestCase, variant: Variant, texts: CaseTexts) => boolean

const NEEDS: Record<Feature, Need> = {
  tls: ({ profile }, { steps }, texts) =>
    ['submission', 'submissions', 'mx_require_tls'].includes(profile) ||
    // Without a certificate STARTTLS is refused: that needs no TLS.
    (profile !== 'mx_notlscert' &&
      (steps.some((step) => step.kind === 'tls' || step.kind === 'starttls') ||
        texts.sends(/^STARTTLS/im) ||
        texts.expectsLine(/STARTTLS/))),
  auth: ({ profile }) => profile === 'submission' || profile === 'submissions',
  xclient: ({ profile }) => profile === 'mx_trusted',
  proxy_protocol: ({ profile }) => profile === 'mx_pp' || profile === 'mx_pp_untrusted',
  // Without the announcement BDAT is refused: that needs no CHUNKING.
  chunking: (_, { proxy }, texts) => proxy.chunking === true || texts.expectsLine(/CHUNKING/),
  dsn: (_, variant, texts) =>
    announces(variant, 'DSN') && (texts.sends(/\b(?:RET|ENVID|NOTIFY|ORCPT)=/i) || texts.expectsLine(/DSN/)),
  smtputf8: (_, variant, texts) =>
    announces(variant, 'SMTPUTF8') && (texts.sends(/ SMTPUTF8\b/i) || texts.expectsLine(/SMTPUTF8/)),
  backend_tls: (_, { backend }) =>
    backend.some((rule) => ('at' in rule ? rule.at === 'STARTTLS' : rule.ehlo_lines.includes('STARTTLS'))),
  dns: (_, { proxy }) => proxy.dns !== undefined,
  authentication_results: (_, variant, texts) =>
    [...(variant.check.backend?.content_re ?? [])].some((re) => re.source.includes('Authentication-Results')) &&
    !texts.sends(/^Authentication-Results:/im),
  dispositions: (_, __, texts) => texts.sends(/^X-Test-Verdict: *(?:discard|quarantine)/im),
}

/** What a case says and hopes to see, as text. */
class CaseTexts {
  readonly #sent: readonly string[]
  readonly #expected: readonly string[]

  constructor({ steps }: Variant) {
    this.#sent = steps.flatMap((step) => {
      if (step.kind === 'send') return [step.argument]
      if (step.kind === 'send_repeat' || step.kind === 'send_chunks') return [step.argument.data]
      return step.kind === 'send_hex' ? [step.argument.toString('latin1')] : []
    })
    this.#expected = steps.flatMap((step) =>
      step.kind === 'expect_lines' ? step.argument.all.map((re) => re.source) : [],
    )
  }

  sends(pattern: RegExp): boolean {
    return this.#sent.some((text) => pattern.test(text))
  }

  /** A line that must be in a reply to EHLO. */
  expectsLine(pattern: RegExp): boolean {
    return this.#expected.some((source) => pattern.test(source))
  }
}

/** Whether the backend of the case offers an extension: one that it does not offer is refused, and that needs nothing built. */
function announces({ backend }: Variant, keyword: string): boolean {
  const scripted = backend.flatMap((rule) => ('ehlo_lines' in rule ? [rule.ehlo_lines] : []))
  return scripted.length === 0 || scripted.some((lines) => lines.some((line) => line.split(' ')[0] === keyword))
}

function featureNames(): Feature[] {
  return Object.keys(FEATURES) as Feature[]
}
