// networks: lists of client addresses.
//   allow: [CIDR or file:NAME …]   trusted: the remaining filters are skipped (never attachments and virus scanners); finding NETWORK_ALLOW
//   skip:  [CIDR or file:NAME …]   not filtered, without a finding: your own machines
//   deny:  [CIDR or file:NAME …]   refused at RCPT with 550 5.7.1
// The first list that holds the client counts, in this order. All are empty by default: behind a NAT or a container proxy 127.0.0.0/8 would be
// the whole world. Relaying is another matter (`relay_networks`).
import { z } from 'zod'
import { defineFilter } from '../filter/filter.ts'
import { NetworkSet, networkDefect } from '../net/ip.ts'
import { reply } from '../smtp/reply.ts'

const list = z.array(z.string().min(1)).default([])

export const networks = defineFilter({
  name: 'networks',
  options: z.strictObject({
    allow: list.describe('Trusted networks'),
    skip: list.describe('Networks that are not filtered'),
    deny: list.describe('Networks whose mail is refused'),
  }),
  writes: ['knownNetwork'],
  create(options, kit) {
    const allow = new NetworkSet(kit.readList(options.allow, networkDefect))
    const skip = new NetworkSet(kit.readList(options.skip, networkDefect))
    const deny = new NetworkSet(kit.readList(options.deny, networkDefect))
    return {
      connect({ client }, io) {
        const allowed = allow.find(client.address)
        if (allowed !== undefined) {
          io.set('knownNetwork', allowed)
          const verdict = { kind: 'trust', reason: `${client.address} is in allow (${allowed})` } as const
          return { findings: [{ symbol: 'NETWORK_ALLOW', detail: allowed }], verdict }
        }
        const skipped = skip.find(client.address)
        if (skipped !== undefined) {
          io.set('knownNetwork', skipped)
          return { verdict: { kind: 'trust', reason: `${client.address} is in skip (${skipped})` } }
        }
        const denied = deny.find(client.address)
        if (denied === undefined) return undefined
        return {
          findings: [{ symbol: 'NETWORK_DENY', detail: denied }],
          verdict: {
            kind: 'reject',
            reason: `${client.address} is in deny (${denied})`,
            reply: reply(550, [7, 1], 'Your network is not accepted here'),
          },
        }
      },
    }
  },
})
