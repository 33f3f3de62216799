// Problems with the options of filters, which are checked after the configuration was loaded.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { loadConfig } from '../../src/config/load.ts'

test('explain() speaks of the options of a filter as of any setting', () => {
  const options = z.strictObject({
    lists: z.array(z.strictObject({ zone: z.string(), weight: z.number().default(1) })),
    mood: z.enum(['calm', 'wild']).optional(),
    level: z.union([z.number(), z.literal('off')]).optional(),
    odd: z.number().min(3, { error: 'three is the least' }).optional(),
  })
  const text =
    'filters:\n  dnsbl:\n    lists: [{zone: 5, wieght: 1}, {}]\n    mood: wil\n    level: on\n    odd: 1\n    secret: x\n'
  const loaded = loadConfig({ text, env: {} })
  const { error } = options.safeParse(loaded.config.filters.dnsbl)
  const lines = loaded
    .explain(error?.issues ?? [], ['filters', 'dnsbl'], options)
    .map((one) => `${one.where} ${one.path}: ${one.message}`)
  assert.deepEqual(lines, [
    'postern.yaml:3:20 filters.dnsbl.lists[0].zone: expected a text; found 5',
    'postern.yaml:3:23 filters.dnsbl.lists[0].wieght: unknown setting; did you mean weight?',
    'postern.yaml:3:35 filters.dnsbl.lists[1].zone: is missing',
    'postern.yaml:4:11 filters.dnsbl.mood: expected one of calm, wild; found "wil"; did you mean wild?',
    'postern.yaml:5:12 filters.dnsbl.level: expected a number, or off; found "on"',
    'postern.yaml:6:10 filters.dnsbl.odd: three is the least',
    'postern.yaml:7:5 filters.dnsbl.secret: unknown setting; known here: lists, mood, level, odd',
  ])
})
