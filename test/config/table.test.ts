// The table of settings in the README is the one that the schema gives. POSTERN_WRITE_DOCS=1 writes it there.
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { configSchema } from '../../src/config/schema.ts'
import { settingsOf } from '../../src/config/schema-walk.ts'
import { settingsTable } from '../../src/config/table.ts'

const README = fileURLToPath(new URL('../../README.md', import.meta.url))
const BLOCK = /(<!-- settings -->\n)[\s\S]*?(\n<!-- \/settings -->)/

test('every setting is described and has its row of four cells', () => {
  const rows = settingsTable().split('\n').slice(2)
  for (const { name } of settingsOf(configSchema)) {
    const cells = rows.find((row) => row.startsWith(`| \`${name}\` |`))?.split(/(?<!\\)\|/)
    assert.equal(cells?.length, 6, name)
    assert.notEqual(cells?.[4]?.trim(), '', `${name} has no description`)
  }
})

test('types and defaults are shown as people write them', () => {
  const rows = new Map(
    settingsTable()
      .split('\n')
      .map((row) => [row.split('`')[1], row.split(' | ').slice(1, 3).join(' | ')]),
  )
  assert.equal(rows.get('hostname'), 'text | name of the machine')
  assert.equal(rows.get('listeners[].address'), 'host:port | required')
  assert.equal(rows.get('relay_networks'), 'list of networks | `[]`')
  assert.equal(rows.get('limits.idle'), 'duration | `5m`')
  assert.equal(rows.get('limits.message_size'), 'size | `50MiB`')
  assert.equal(rows.get('limits.errors'), 'number | `20`')
  assert.equal(rows.get('admin.address'), 'host:port or `off` | `127.0.0.1:8025`')
  assert.equal(rows.get('log.level'), '`debug`, `info`, `warn` or `error` | `info`')
  assert.equal(rows.get('filters.NAME.timeout'), 'duration | `5s`')
})

test('the README has the table', () => {
  const text = readFileSync(README, 'utf8')
  assert.match(text, BLOCK, 'README.md needs the lines <!-- settings --> and <!-- /settings -->')
  const expected = text.replace(BLOCK, (_, start: string, end: string) => `${start}${settingsTable()}${end}`)
  if (process.env.POSTERN_WRITE_DOCS === '1') return writeFileSync(README, expected)
  assert.ok(
    text === expected,
    `README.md should have between its marks (POSTERN_WRITE_DOCS=1 writes it):\n${settingsTable()}`,
  )
})
