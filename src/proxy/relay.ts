// Which recipients are taken (P5), and which are reachable even for a client that is condemned.
// The backend trusts our address, so its own relay check sees nothing: this one is the only one, and it fails closed. Empty lists refuse all.
// Addresses that another server could read as a route are refused everywhere (security.md 2.4): what is checked must be what is delivered.
import type { NetworkSet } from '../net/ip.ts'
import { type Address, localPartValue } from '../smtp/address.ts'
import { type Reply, reply } from '../smtp/reply.ts'

/** Counts as an error of the session: who tries many is sent away. */
export const RELAYING_DENIED = reply(550, [7, 1], 'Relaying denied')

export interface RelayPolicy {
  /** Canonical domains (lower case, A-labels). */
  readonly domains: ReadonlySet<string>
  /** Clients that may send to anywhere. */
  readonly relayNetworks: NetworkSet
  /** `local-part@` at any of our domains, or a whole address; lower case. */
  readonly exempt: ReadonlySet<string>
}

/** The refusal for a recipient that this client (its address, or that it has logged in) may not send to, or undefined. */
export function relayRefusal(
  policy: RelayPolicy,
  address: Address,
  client: string | 'authenticated',
): Reply | undefined {
  if (address.routing) return reply(550, [7, 1], 'Address with routing characters refused')
  if (client === 'authenticated' || isOurs(policy, address) || policy.relayNetworks.has(client)) return undefined
  return RELAYING_DENIED
}

function isOurs(policy: RelayPolicy, address: Address): boolean {
  // RFC 5321 4.5.1: postmaster without a domain is ours, if anything is.
  if (address.domain === '') return policy.domains.size > 0
  return policy.domains.has(address.domain)
}

/** Whether the recipient stays reachable for clients whose other recipients are refused. */
export function isExempt(policy: RelayPolicy, address: Address): boolean {
  const local = localPartValue(address)
  return isOurs(policy, address) && (policy.exempt.has(`${local}@`) || policy.exempt.has(`${local}@${address.domain}`))
}
