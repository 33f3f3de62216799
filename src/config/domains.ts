// Is a text the name of a mail domain? Says what is wrong in words that lead to the right entry.
// Not taken: asking the DNS; a name that does not resolve today may still be ours.
import { isIP } from 'node:net'
import { domainToASCII } from 'node:url'

/** What is wrong with an entry of `domains`, undefined for a good one. Names may have U-labels (RFC 5890 2.3.2.1). */
export function domainProblem(text: string): string | undefined {
  if (/\s/.test(text)) return 'expected a domain; one entry a line, without spaces'
  if (text.includes('@')) return `expected a domain such as example.org, not an address${afterAt(text)}`
  if (text.includes('://')) return 'expected a domain such as example.org, not a URL'
  if (text.includes('*') || text.startsWith('.'))
    return 'expected a domain; there are no patterns, each domain is named in full'
  if (text.includes(',')) return 'expected one domain an entry'
  if (isIP(text.replace(/^\[(?:ipv6:)?|\]$/gi, '')) !== 0)
    return 'expected a domain such as example.org, not an IP address'
  if (text.endsWith('.')) return 'expected a domain without the dot at its end'
  return isDomain(text) ? undefined : 'expected a domain such as example.org'
}

function afterAt(text: string): string {
  const domain = text.slice(text.lastIndexOf('@') + 1)
  return isDomain(domain) ? `; did you mean ${domain}?` : ''
}

/** RFC 5321 4.1.2 Domain, U-labels allowed (RFC 6531 3.3); lengths are those of the A-labels (RFC 1035 2.3.4). */
function isDomain(text: string): boolean {
  if (!/^[\p{L}\p{M}\p{N}.-]+$/u.test(text)) return false
  const ascii = domainToASCII(text)
  const labels = ascii.split('.')
  // A last label of digits or 0x… would make the name an IPv4 address to some readers.
  if (/^(\d+|0x[\da-f]*)$/i.test(labels.at(-1) ?? '') || ascii.length > 253) return false
  return labels.every((label) => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(label))
}
