// A filter of one's own: finds mail that shows one of our addresses as the name of the sender and comes from somewhere else,
// as in `From: "boss@example.org" <x@example.net>`.
import { defineFilter } from 'postern/filter'

interface Options {
  readonly domains: readonly string[]
}

export default defineFilter<Options>({
  name: 'display_name',
  options: {
    parse(raw) {
      const { domains } = raw as { domains?: unknown }
      if (!Array.isArray(domains)) throw new Error('domains: expected a list of domain names')
      return { domains: domains.map((domain) => String(domain).toLowerCase()) }
    },
  },
  create: ({ domains }) => ({
    message(_tx, message) {
      const from = message.headers.find((field) => field.name.toLowerCase() === 'from')?.value.toLowerCase() ?? ''
      const address = from.lastIndexOf('<')
      const shown = domains.find((domain) => from.slice(0, Math.max(0, address)).includes(`@${domain}`))
      if (shown === undefined || from.slice(address).includes(`@${shown}>`)) return undefined
      return { findings: [{ symbol: 'DISPLAY_NAME_SPOOF', detail: shown }] }
    },
  }),
})
