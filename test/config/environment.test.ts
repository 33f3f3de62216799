// Settings from the environment.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Environment } from '../../src/config/environment.ts'
import { loadConfig } from '../../src/config/load.ts'
import { ConfigError } from '../../src/config/problem.ts'

function load(env: Environment, text = '') {
  return loadConfig({ text, env })
}

function refused(name: string, env: Environment, expected: readonly string[], text = ''): void {
  test(name, () => {
    assert.throws(
      () => load(env, text),
      (error) => {
        assert.ok(error instanceof ConfigError, String(error))
        assert.deepEqual(
          error.message.split('\n'),
          expected.map((line) => (line.startsWith('POSTERN_') ? `environment ${line}` : line)),
        )
        return true
      },
    )
  })
}

test('values are YAML', () => {
  const { config } = load({
    POSTERN_HOSTNAME: 'mx.example',
    POSTERN_DOMAINS: '[a.example, "b.example"]',
    POSTERN_LIMITS__IDLE: '5m',
    POSTERN_LIMITS__ERRORS: '7',
    POSTERN_ACTIONS: '{tag: 3, reject: 8.5}',
    POSTERN_ADMIN__ADDRESS: 'off',
    POSTERN_FILTERS__NETWORKS__ENABLED: 'false',
    POSTERN_FILTERS__DNSBL__LISTS__0__ZONE: 'bl.example',
    UNRELATED: '[',
  })
  assert.equal(config.hostname, 'mx.example')
  assert.deepEqual(config.domains, ['a.example', 'b.example'])
  assert.equal(config.limits.idle, 300_000)
  assert.equal(config.limits.errors, 7)
  assert.deepEqual(config.actions, { tag: 3, reject: 8.5 })
  assert.equal(config.admin.address, 'off')
  assert.deepEqual(config.filters, { networks: { enabled: false }, dnsbl: { lists: [{ zone: 'bl.example' }] } })
})

test('where only a text can stand, YAML does not stand in the way', () => {
  const { config } = load({
    POSTERN_ADMIN__ADDRESS: '[::1]:8025',
    POSTERN_HOSTNAME: '1234',
    POSTERN_DATA_DIR: '"a # b"',
    POSTERN_RELAY_NETWORKS__0: '::1',
  })
  assert.deepEqual(config.admin.address, { host: '::1', port: 8025 })
  assert.equal(config.hostname, '1234')
  assert.equal(config.data_dir, 'a # b')
  assert.deepEqual(config.relay_networks, ['::1'])
})

test('the environment goes before the file', () => {
  const text = 'limits: {idle: 1m, errors: 5}\nfilters: {spf: , x: {list: [a, b, c]}}\nlog:\n'
  const { config } = load(
    {
      POSTERN_LIMITS__IDLE: '2m',
      POSTERN_FILTERS__SPF__MODE: 'shadow',
      POSTERN_FILTERS__X__LIST__1: 'q',
      POSTERN_LOG__LEVEL: 'warn',
    },
    text,
  )
  assert.deepEqual([config.limits.idle, config.limits.errors], [120_000, 5])
  assert.deepEqual(config.filters, { spf: { mode: 'shadow' }, x: { list: ['a', 'q', 'c'] } })
  assert.equal(config.log.level, 'warn')
})

test('an override does not reach what shares an anchor with it', () => {
  const { config } = load({ POSTERN_FILTERS__A__LEVEL: '2' }, 'filters: {a: &a {level: 1}, b: *a}\n')
  assert.deepEqual(config.filters, { a: { level: 2 }, b: { level: 1 } })
})

test('single entries are laid over the default list, and may be added at its end', () => {
  const { config } = load({
    POSTERN_LISTENERS__1__ADDRESS: '127.0.0.1:2526',
    POSTERN_LISTENERS__1__NAME: 'inner',
    POSTERN_LISTENERS__0__ADDRESS: '127.0.0.1:2525',
    POSTERN_EXEMPT_RECIPIENTS__2: 'hostmaster@',
  })
  assert.deepEqual(
    config.listeners.map(({ name, address }) => [name, address.port]),
    [
      ['mx', 2525],
      ['inner', 2526],
    ],
  )
  assert.deepEqual(config.exempt_recipients, ['postmaster@', 'abuse@', 'hostmaster@'])
  assert.deepEqual(load({}).config.exempt_recipients, ['postmaster@', 'abuse@'])
})

test('a whole list and one of its entries go together, in whatever order they are given', () => {
  const whole = ['POSTERN_DOMAINS', '[a.example, b.example]'] as const
  const entry = ['POSTERN_DOMAINS__1', 'c.example'] as const
  for (const order of [
    [whole, entry],
    [entry, whole],
  ]) {
    assert.deepEqual(load(Object.fromEntries(order)).config.domains, ['a.example', 'c.example'])
  }
})

test('entries are counted as numbers, not as texts', () => {
  const names = Array.from({ length: 12 }, (_, at) => [`POSTERN_DOMAINS__${at}`, `d${at}.example`])
  assert.equal(load(Object.fromEntries(names.toReversed())).config.domains[11], 'd11.example')
})

test('where() names the variable', () => {
  const env = { POSTERN_FILTERS__DNSBL__LISTS: '[{zone: a}]', POSTERN_FILTERS__NEW__LEVEL: '3' }
  const { where } = load(env, 'filters: {dnsbl: {lists: [{zone: b}], timeout: 2s}}\n')
  assert.equal(where(['filters', 'dnsbl', 'lists', 0, 'zone']), 'environment POSTERN_FILTERS__DNSBL__LISTS')
  assert.equal(where(['filters', 'dnsbl', 'timeout']), 'postern.yaml:1:48')
  assert.equal(where(['filters', 'new', 'level']), 'environment POSTERN_FILTERS__NEW__LEVEL')
  assert.equal(where(['filters', 'new']), 'environment POSTERN_FILTERS__NEW__LEVEL')
  assert.equal(where(['filters', 'new', 'other']), 'environment POSTERN_FILTERS__NEW__LEVEL')
  assert.equal(where(['filters', 'new'], 'key'), 'environment POSTERN_FILTERS__NEW__LEVEL')
})

refused(
  'a value that fails is named by its variable',
  { POSTERN_LIMITS__IDLE: '5x', POSTERN_LISTENERS__0__ADDRESS: 'x' },
  [
    'POSTERN_LIMITS__IDLE: limits.idle: expected a duration such as 30s, 5m or 1d; found "5x"',
    'POSTERN_LISTENERS__0__ADDRESS: listeners[0].address: expected host:port such as 10.0.0.5:25 or [::1]:25; found "x"',
  ].toReversed(),
)
refused('an empty value', { POSTERN_HOSTNAME: '', POSTERN_LIMITS__ERRORS: ' ' }, [
  'POSTERN_HOSTNAME: hostname: has no value; give it one or leave it out',
  'POSTERN_LIMITS__ERRORS: limits.errors: has no value; give it one or leave it out',
])
refused('a domain that is none', { POSTERN_DOMAINS: '[a@b.example]' }, [
  'POSTERN_DOMAINS: domains[0]: expected a domain such as example.org, not an address; did you mean b.example?; found "a@b.example"',
])
refused('an unknown key inside a value', { POSTERN_LIMITS: '{idel: 5m}' }, [
  'POSTERN_LIMITS: limits.idel: unknown setting; did you mean idle?',
])
refused('a value that is not good YAML', { POSTERN_DOMAINS: '[a', POSTERN_ACTIONS: '{tag: 1, tag: 2}' }, [
  'POSTERN_ACTIONS: actions: the value is not good YAML: this key stands here a second time',
  'POSTERN_DOMAINS: domains: the value is not good YAML: Flow sequence must end with a ]',
])
refused(
  'misspelt names',
  {
    POSTERN_LIMITS__MESAGE_SIZE: '1',
    POSTERN_LIMITS_IDLE: '1m',
    POSTERN_LISTENERS__1__ADRESS: 'x',
    POSTERN_limits__idle: '1m',
    POSTERN_QQQQQQ: '1',
    POSTERN_: '1',
  },
  [
    'POSTERN_LIMITS__MESAGE_SIZE: no setting has this name; did you mean POSTERN_LIMITS__MESSAGE_SIZE?',
    'POSTERN_LIMITS_IDLE: no setting has this name; did you mean POSTERN_LIMITS__IDLE?',
    'POSTERN_LISTENERS__1__ADRESS: no setting has this name; did you mean POSTERN_LISTENERS__1__ADDRESS?',
    'POSTERN_limits__idle: no setting has this name; did you mean POSTERN_LIMITS__IDLE?',
    'POSTERN_QQQQQQ: no setting has this name',
    'POSTERN_: no setting has this name',
  ],
)
refused(
  'list indices',
  {
    POSTERN_LISTENERS__X__NAME: 'a',
    POSTERN_DOMAINS__00: 'a.example',
    POSTERN_DOMAINS__5: 'a.example',
    POSTERN_LISTENERS__99999__NAME: 'a',
  },
  [
    'POSTERN_LISTENERS__X__NAME: no setting has this name; did you mean POSTERN_LISTENERS__0__NAME?',
    'POSTERN_DOMAINS__00: no setting has this name',
    'POSTERN_LISTENERS__99999__NAME: no setting has this name',
    'POSTERN_DOMAINS__5: domains[5]: domains has 0 entries; the next one is number 0',
  ],
)
refused(
  'a name that does not fit what the file has',
  { POSTERN_LIMITS__IDLE: '1m', POSTERN_FILTERS__A__B: '1' },
  [
    'postern.yaml:1:9: limits: expected a mapping (key: value); found 5',
    'postern.yaml:2:14: filters.a: expected a mapping (key: value); found a list',
    'POSTERN_FILTERS__A__B: filters.a.b: filters.a is a list; expected a number after it',
    'POSTERN_LIMITS__IDLE: limits.idle: limits is neither a mapping nor a list in the file',
  ],
  'limits: 5\nfilters: {a: [1]}\n',
)
refused(
  'names that reach into JavaScript',
  {
    POSTERN_CONSTRUCTOR: '1',
    POSTERN___PROTO__: '1',
    POSTERN_FILTERS____PROTO____X: '1',
    POSTERN_FILTERS__CONSTRUCTOR__X: '1',
    POSTERN_FILTERS__A__PROTOTYPE: '1',
    POSTERN_FILTERS__B: '{__proto__: {x: 1}}',
  },
  [
    'POSTERN_CONSTRUCTOR: no setting has this name',
    'POSTERN___PROTO__: no setting has this name',
    'POSTERN_FILTERS____PROTO____X: no setting has this name',
    'POSTERN_FILTERS__CONSTRUCTOR__X: no setting has this name',
    'POSTERN_FILTERS__A__PROTOTYPE: no setting has this name',
    'POSTERN_FILTERS__B: filters.b: the value is not good YAML: __proto__ cannot be the name of a setting',
  ],
)
refused('endless levels', { [`POSTERN_FILTERS${'__A'.repeat(30_000)}`]: '1' }, [
  `POSTERN_FILTERS${'__A'.repeat(30_000)}: no setting has this name`,
])

test('nothing reaches the prototype of objects', () => {
  assert.throws(
    () => load({ POSTERN_FILTERS____PROTO____POLLUTED: '1', POSTERN_FILTERS__B: '{__proto__: {polluted: 1}}' }),
    ConfigError,
  )
  assert.equal('polluted' in {}, false)
})

test('what Kubernetes tells about a service called postern is passed over', () => {
  const { config } = load({
    POSTERN_SERVICE_HOST: '10.96.0.7',
    POSTERN_SERVICE_PORT: '25',
    POSTERN_SERVICE_PORT_SMTP: '25',
    POSTERN_PORT: 'tcp://10.96.0.7:25',
    POSTERN_PORT_25_TCP: 'tcp://10.96.0.7:25',
    POSTERN_PORT_25_TCP_PROTO: 'tcp',
    POSTERN_PORT_25_TCP_PORT: '25',
    POSTERN_PORT_25_TCP_ADDR: '10.96.0.7',
    POSTERN_ADMIN_SERVICE_HOST: '10.96.0.8',
    POSTERN_ADMIN_PORT: 'tcp://10.96.0.8:8025',
  })
  assert.equal(config.admin.address === 'off' ? undefined : config.admin.address.port, 8025)
})
refused('but not what somebody meant as a setting', { POSTERN_PORT: '2525' }, [
  'POSTERN_PORT: no setting has this name',
])
