// Durations, sizes, addresses with ports and networks as people write them, and as they get them wrong.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { z } from 'zod'
import { cidr, count, duration, hostPort, parseHostPort, size } from '../../src/config/values.ts'

const REFUSED = Symbol('refused')

function parsed(schema: z.ZodType, raw: unknown): unknown {
  const result = schema.safeParse(raw)
  return result.success ? result.data : REFUSED
}

function table(name: string, schema: z.ZodType, cases: readonly (readonly [raw: unknown, expected: unknown])[]): void {
  for (const [raw, expected] of cases) {
    const title = `${name}: ${JSON.stringify(raw)} is ${expected === REFUSED ? 'refused' : JSON.stringify(expected)}`
    test(title, () => assert.deepEqual(parsed(schema, raw), expected))
  }
}

table('duration', duration(), [
  ['0s', 0],
  ['500ms', 500],
  ['30s', 30_000],
  ['5m', 300_000],
  ['5 m', 300_000],
  [' 5m ', 300_000],
  ['1.5h', 5_400_000],
  ['1d', 86_400_000],
  ['5M', 300_000],
  ['-1s', REFUSED],
  ['+1s', REFUSED],
  ['1e3', REFUSED],
  ['1e3s', REFUSED],
  ['.5s', REFUSED],
  ['5.s', REFUSED],
  ['', REFUSED],
  [' ', REFUSED],
  ['s', REFUSED],
  ['30', REFUSED],
  [30, REFUSED],
  ['5m30s', REFUSED],
  ['5w', REFUSED],
  ['٣s', REFUSED],
  [`${'9'.repeat(400)}s`, REFUSED],
  ['99999999999999999d', REFUSED],
  [null, REFUSED],
  [true, REFUSED],
  [['5m'], REFUSED],
])

table('size', size(), [
  ['0', 0],
  ['2048', 2048],
  [2048, 2048],
  [1e3, 1000],
  ['64b', 64],
  ['1kB', 1000],
  ['256KiB', 262_144],
  ['256kib', 262_144],
  ['1.5GiB', 1_610_612_736],
  ['50 MiB', 52_428_800],
  ['-1', REFUSED],
  [-1, REFUSED],
  ['1e3', REFUSED],
  ['5M', REFUSED],
  ['5K', REFUSED],
  ['5TiB', REFUSED],
  ['0x10', REFUSED],
  ['1,5GiB', REFUSED],
  ['', REFUSED],
  ['99999999999GiB', REFUSED],
  [1e300, REFUSED],
  [Number.NaN, REFUSED],
  [Number.POSITIVE_INFINITY, REFUSED],
])

table('count', count(1), [
  [1, 1],
  [0, REFUSED],
  [1.5, REFUSED],
  ['1', REFUSED],
  [1e300, REFUSED],
])

table('host:port', hostPort(), [
  ['10.0.0.5:25', { host: '10.0.0.5', port: 25 }],
  ['0.0.0.0:0', { host: '0.0.0.0', port: 0 }],
  ['[::1]:25', { host: '::1', port: 25 }],
  ['[::ffff:192.0.2.1]:25', { host: '::ffff:192.0.2.1', port: 25 }],
  ['mail.example.org:65535', { host: 'mail.example.org', port: 65535 }],
  ['my_backend:25', { host: 'my_backend', port: 25 }],
  ['xn--bcher-kva.example:25', { host: 'xn--bcher-kva.example', port: 25 }],
  ['mail.example.org:65536', REFUSED],
  ['mail.example.org:', REFUSED],
  ['mail.example.org', REFUSED],
  ['mail.example.org:-1', REFUSED],
  ['mail.example.org:25 ', REFUSED],
  ['mail..example.org:25', REFUSED],
  ['.example.org:25', REFUSED],
  ['-mail.example.org:25', REFUSED],
  ['mail-.example.org:25', REFUSED],
  [`${'a'.repeat(64)}.org:25`, REFUSED],
  [`${'a.'.repeat(130)}org:25`, REFUSED],
  [':25', REFUSED],
  ['25', REFUSED],
  [25, REFUSED],
  ['::1:25', REFUSED],
  ['[::1]', REFUSED],
  ['[::1%lo]:25', REFUSED],
  ['[10.0.0.5]:25', REFUSED],
  ['[mail.example.org]:25', REFUSED],
  ['010.0.0.1:25', REFUSED],
  ['10.0.0.256:25', REFUSED],
  ['10.1:25', REFUSED],
  ['0x7f.1:25', REFUSED],
  ['127.0.0.0x1:25', REFUSED],
  ['2130706433:25', REFUSED],
  ['smtp://mail.example.org:25', REFUSED],
  ['', REFUSED],
])

test('parseHostPort says undefined for what it does not know', () => {
  assert.equal(parseHostPort('nothing'), undefined)
})

table('network', cidr(), [
  ['192.0.2.1', '192.0.2.1'],
  ['192.0.2.0/24', '192.0.2.0/24'],
  ['192.0.2.0/32', '192.0.2.0/32'],
  ['2001:db8::/32', '2001:db8::/32'],
  ['::1/128', '::1/128'],
  ['192.0.2.0/33', REFUSED],
  ['2001:db8::/129', REFUSED],
  ['192.0.2.0/', REFUSED],
  ['192.0.2.0/024', REFUSED],
  ['192.0.2.0/-1', REFUSED],
  ['192.0.2.0/24/24', REFUSED],
  ['192.0.2.0/255.255.255.0', REFUSED],
  ['010.0.0.1', REFUSED],
  ['0x7f.1', REFUSED],
  ['127.1', REFUSED],
  ['10.0.0', REFUSED],
  ['fe80::1%eth0', REFUSED],
  ['fe80::1%eth0/64', REFUSED],
  ['[::1]', REFUSED],
  [' 192.0.2.1', REFUSED],
  ['', REFUSED],
  [10, REFUSED],
])

test('a refusal shows how it is written', () => {
  for (const [schema, raw, example] of [
    [duration(), true, '5m'],
    [size(), null, '50MiB'],
    [hostPort(), 25, '[::1]:25'],
    [cidr(), 10, '192.0.2.0/24'],
  ] as const) {
    const [issue] = schema.safeParse(raw).error?.issues ?? []
    assert.match(issue?.message ?? '', new RegExp(`^expected .*${example.replace(/[[\]./]/g, '\\$&')}`))
  }
})
