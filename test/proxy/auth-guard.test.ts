// Failed logins over all sessions: who must wait, for how long, and how much is remembered.
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { AuthGuard } from '../../src/proxy/auth-guard.ts'
import { FakeClock } from '../support/fake-clock.ts'

const MINUTE = 60_000
const ENTRIES_MAX = 10_000

function guarded(limit = 3): { guard: AuthGuard; clock: FakeClock } {
  const clock = new FakeClock()
  return { guard: new AuthGuard(clock, limit), clock }
}

function fail(guard: AuthGuard, { times, address, account }: { times: number; address?: string; account?: string }) {
  // Without an address it is another one each time.
  for (let i = 0; i < times; i++) guard.failed(address ?? `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, account)
}

suite('the client', () => {
  test('waits from the limit on, whatever accounts it tried', () => {
    const { guard } = guarded()
    for (const account of ['a', 'b']) guard.failed('192.0.2.1', account)
    assert.equal(guard.blocksClient('192.0.2.1'), false)
    guard.failed('192.0.2.1', undefined)
    assert.equal(guard.blocksClient('192.0.2.1'), true)
    assert.equal(guard.blocksClient('192.0.2.2'), false)
    assert.equal(guard.blocksAccount('a'), false)
  })

  test('is a whole /64 in IPv6', () => {
    const { guard } = guarded()
    for (const host of ['1', 'ffff', '1:2:3']) guard.failed(`2001:db8:0:1::${host}`, undefined)
    assert.equal(guard.blocksClient('2001:db8:0:1:aaaa:bbbb:cccc:dddd'), true)
    assert.equal(guard.blocksClient('2001:db8:0:2::1'), false)
  })

  test('stays blocked when a login of an account succeeds', () => {
    const { guard } = guarded()
    fail(guard, { times: 3, address: '192.0.2.1', account: 'jim' })
    guard.succeeded('jim')
    assert.equal(guard.blocksClient('192.0.2.1'), true)
  })
})

suite('the account', () => {
  test('waits from the limit on, wherever the failures came from', () => {
    const { guard } = guarded()
    fail(guard, { times: 2, account: 'jim' })
    assert.equal(guard.blocksAccount('jim'), false)
    guard.failed('2001:db8::1', 'jim')
    assert.equal(guard.blocksAccount('jim'), true)
    assert.equal(guard.blocksAccount('ann'), false)
    assert.equal(guard.blocksClient('10.0.0.0'), false)
  })

  test('is forgiven by a success', () => {
    const { guard } = guarded()
    fail(guard, { times: 2, account: 'jim' })
    guard.succeeded('jim')
    fail(guard, { times: 2, account: 'jim' })
    assert.equal(guard.blocksAccount('jim'), false)
    fail(guard, { times: 1, account: 'jim' })
    assert.equal(guard.blocksAccount('jim'), true)
  })

  test('is nothing where the mechanism does not show it', () => {
    const { guard } = guarded(1)
    fail(guard, { times: 5 })
    guard.succeeded(undefined)
    assert.equal(guard.blocksAccount(undefined), false)
  })

  test('is not mixed up with a client of that name', () => {
    const { guard } = guarded(1)
    guard.failed('192.0.2.1', undefined)
    assert.equal(guard.blocksAccount('192.0.2.1'), false)
    guard.failed('192.0.2.9', 'client 192.0.2.2')
    assert.equal(guard.blocksClient('192.0.2.2'), false)
  })
})

suite('the window', () => {
  test('is ten minutes from the first failure', async () => {
    const { guard, clock } = guarded()
    guard.failed('192.0.2.1', 'jim')
    await clock.advance(9 * MINUTE)
    fail(guard, { times: 2, address: '192.0.2.1', account: 'jim' })
    assert.equal(guard.blocksClient('192.0.2.1'), true)
    await clock.advance(MINUTE)
    assert.equal(guard.blocksClient('192.0.2.1'), true)
    assert.equal(guard.blocksAccount('jim'), true)
    await clock.advance(1)
    assert.equal(guard.blocksClient('192.0.2.1'), false)
    assert.equal(guard.blocksAccount('jim'), false)
  })

  test('begins anew behind it, from nothing', async () => {
    const { guard, clock } = guarded()
    fail(guard, { times: 3, address: '192.0.2.1' })
    await clock.advance(10 * MINUTE + 1)
    fail(guard, { times: 2, address: '192.0.2.1' })
    assert.equal(guard.blocksClient('192.0.2.1'), false)
    await clock.advance(10 * MINUTE)
    fail(guard, { times: 1, address: '192.0.2.1' })
    assert.equal(guard.blocksClient('192.0.2.1'), true)
  })
})

suite('memory', () => {
  test('ends at 10,000 entries, of which the one that failed longest ago goes first', () => {
    const { guard } = guarded(1)
    guard.failed('192.0.2.1', undefined)
    guard.failed('192.0.2.2', undefined)
    guard.failed('192.0.2.1', undefined)
    fail(guard, { times: ENTRIES_MAX - 2 })
    assert.equal(guard.blocksClient('192.0.2.2'), true)
    guard.failed('198.51.100.1', undefined)
    assert.equal(guard.blocksClient('192.0.2.2'), false)
    assert.equal(guard.blocksClient('192.0.2.1'), true)
    guard.failed('198.51.100.2', undefined)
    assert.equal(guard.blocksClient('192.0.2.1'), false)
    assert.equal(guard.blocksClient('10.0.0.0'), true)
  })

  test('an account that fails counts as an entry of its own', () => {
    const { guard } = guarded(1)
    guard.failed('192.0.2.1', 'jim')
    fail(guard, { times: ENTRIES_MAX - 1 })
    assert.equal(guard.blocksClient('192.0.2.1'), false)
    assert.equal(guard.blocksAccount('jim'), true)
  })
})
