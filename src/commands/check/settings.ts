// Settings that are allowed and probably not meant. Pure: from a configuration to findings.
// Not taken: making these errors of the configuration. Each of them is right for somebody; an open relay is right for a laboratory.
import { isIP } from 'node:net'
import type { Config } from '../../config/schema.ts'
import { canonicalAddress } from '../../net/ip.ts'
import { type Finding, finding } from './report.ts'

export function settingFindings(config: Config): Finding[] {
  return [
    ...domainFindings(config),
    ...relayFindings(config),
    ...thresholdFindings(config),
    ...addressFindings(config.listeners),
  ]
}

function domainFindings({ domains }: Config): Finding[] {
  if (domains.length > 0) return [finding('ok', 'domains', `mail is taken for ${list(domains)}`)]
  return [finding('WARN', 'domains', 'empty: mail for no domain is taken; list the domains of the backend')]
}

function list(names: readonly string[]): string {
  const shown = names.slice(0, 5).join(', ')
  return names.length > 5 ? `${shown} and ${names.length - 5} more` : shown
}

function relayFindings({ relay_networks }: Config): Finding[] {
  return relay_networks.filter(isHuge).map((network) => ({
    level: 'WARN',
    what: 'relay_networks',
    detail: `WARNING: ${network} makes this an open relay: strangers may send to anywhere, and soon nobody takes mail from here`,
    negative: true,
  }))
}

// Nobody owns more than a /8 of IPv4; of IPv6 the private fc00::/7 is the largest network that one may mean.
function isHuge(network: string): boolean {
  const [written = '', prefix] = network.split('/')
  if (prefix === undefined) return false
  const mapped = isIP(written) === 6 && isIP(canonicalAddress(written) ?? '') === 4
  if (mapped) return Number(prefix) - 96 < 8
  return Number(prefix) < (isIP(written) === 4 ? 8 : 7)
}

function thresholdFindings({ actions, limits }: Config): Finding[] {
  const findings: Finding[] = []
  if (actions.tag > actions.reject) {
    const detail = `tag (${actions.tag}) is above reject (${actions.reject}): nothing is ever tagged`
    findings.push(finding('WARN', 'actions', detail))
  }
  if (limits.errors_soft > limits.errors) {
    const detail = `errors_soft (${limits.errors_soft}) is above errors (${limits.errors}): no answer is ever slowed down`
    findings.push(finding('WARN', 'limits', detail))
  }
  return findings
}

// Port 0 is another port each time.
function addressFindings(listeners: Config['listeners']): Finding[] {
  const seen = new Map<string, string>()
  const findings: Finding[] = []
  for (const { name, address } of listeners) {
    const key = `${address.host}:${address.port}`
    const other = seen.get(key)
    if (other === undefined || address.port === 0) seen.set(key, name)
    else
      findings.push(
        finding('WARN', `listener ${name}`, `has the address of listener ${other}: the gateway will not start`),
      )
  }
  return findings
}
