// The connections to the servers of one backend.
// Promise: never more than the limit to one server; a connection is kept for the next message only when its transaction ended cleanly
// (rule 8: after any abort it is closed); whoever waits for one waits a bounded time; servers are tried in the order they are listed.
import type { Clock, Timer } from '../net/clock.ts'
import type { EhloProfile } from '../smtp/extensions.ts'
import type { ProxyAddress } from '../smtp/proxy-header.ts'
import type { BackendConnection, Server } from './backend.ts'
import { type ConnectOptions, connectBackend } from './backend-connect.ts'
import { BackendError } from './destination.ts'
import { type ClientAddressMode, type ClientIdentity, connectionPrelude, mayPool } from './identity.ts'

export interface PoolOptions extends Omit<ConnectOptions, 'server' | 'prelude'> {
  readonly servers: readonly Server[]
  readonly connectionsPerServer: number
  /** How long an unused connection is kept, milliseconds. */
  readonly idle: number
  readonly clientAddress: ClientAddressMode
}

/** What is wanted of a connection. */
export interface Wish {
  /** A new one, never used. */
  readonly fresh?: boolean
  /** For whom; without one it is for us (a probe). */
  readonly client?: ClientIdentity
}

export interface PoolState {
  readonly server: string
  readonly open: number
  readonly idle: number
}

// What somebody who waits is given: a connection, or the right to make one.
type Handed = BackendConnection | 'slot'

interface Lane {
  readonly server: Server
  readonly name: string
  open: number
  readonly idle: { connection: BackendConnection; timer: Timer }[]
  readonly waiting: ((handed: Handed) => void)[]
  profile: EhloProfile | undefined
  /** The last attempt to connect failed. */
  away: boolean
}

export class BackendPool {
  readonly #options: PoolOptions
  readonly #lanes: readonly Lane[]
  #closed = false

  constructor(options: PoolOptions) {
    this.#options = options
    this.#lanes = options.servers.map((server) => ({
      server,
      name: `${server.host}:${server.port}`,
      open: 0,
      idle: [],
      waiting: [],
      profile: undefined,
      away: false,
    }))
  }

  get #clock(): Clock {
    return this.#options.clock
  }

  /** The profiles of the servers reached so far. */
  profiles(): EhloProfile[] {
    return this.#lanes.flatMap((lane) => (lane.profile === undefined ? [] : [lane.profile]))
  }

  /** Every server has been reached at some time. */
  get allKnown(): boolean {
    return this.#lanes.every((lane) => lane.profile !== undefined)
  }

  /** At least one server is there, as far as is known: reached, and not lost since. */
  get available(): boolean {
    return this.#lanes.some((lane) => lane.profile !== undefined && (!lane.away || lane.open > 0))
  }

  state(): PoolState[] {
    return this.#lanes.map((lane) => ({ server: lane.name, open: lane.open, idle: lane.idle.length }))
  }

  /** A connection for one transaction: an idle one unless `fresh`. Rejects with BackendError (`unreachable`, `busy`). */
  async acquire(wish: Wish = {}): Promise<BackendConnection> {
    let failure: BackendError | undefined
    for (const lane of this.#lanes) {
      try {
        return await this.#fromLane(lane, wish)
      } catch (error) {
        if (!(error instanceof BackendError)) throw error
        failure ??= error
      }
    }
    throw failure ?? new BackendError('unreachable', 'backend', 'no server is configured')
  }

  /**
   * Connects to every server that was never reached or is away; resolves as soon as one answers (a dead one must not hold up the clients), and
   * rejects only if none does.
   */
  async learn(): Promise<void> {
    const unknown = this.#lanes.filter((lane) => lane.profile === undefined || lane.away)
    if (unknown.length === 0) return
    try {
      await Promise.any(unknown.map(async (lane) => this.release(await this.#fromLane(lane, {}))))
    } catch (error) {
      if (this.profiles().length > 0) return
      throw error instanceof AggregateError ? error.errors[0] : error
    }
  }

  /** Takes a connection back after a transaction that ended cleanly; all others are closed by their user. */
  release(connection: BackendConnection): void {
    const lane = this.#lanes.find((l) => l.name === connection.server)
    if (lane === undefined || !connection.alive) return
    if (this.#closed || !connection.clean || !mayPool(this.#options.clientAddress)) {
      connection.close()
      return
    }
    const next = lane.waiting.shift()
    if (next !== undefined) {
      next(connection)
      return
    }
    const timer = this.#clock.timer(this.#options.idle, () => connection.close())
    lane.idle.push({ connection, timer })
  }

  close(): void {
    this.#closed = true
    for (const lane of this.#lanes) {
      for (const { connection, timer } of lane.idle.splice(0)) {
        timer.clear()
        connection.close()
      }
    }
  }

  async #fromLane(lane: Lane, wish: Wish): Promise<BackendConnection> {
    const fresh = wish.fresh === true || !mayPool(this.#options.clientAddress)
    for (;;) {
      const idle = fresh ? undefined : this.#takeIdle(lane)
      if (idle !== undefined) return idle
      if (lane.open >= this.#options.connectionsPerServer) this.#giveUpIdle(lane)
      const handed = lane.open < this.#options.connectionsPerServer ? this.#newSlot(lane) : await this.#wait(lane)
      if (handed === 'slot') return this.#connect(lane, wish.client)
      if (handed.alive && !fresh) {
        handed.uses++
        return handed
      }
      handed.close()
    }
  }

  // The newest first: it is the least likely to have been given up by the server.
  #takeIdle(lane: Lane): BackendConnection | undefined {
    for (let entry = lane.idle.pop(); entry !== undefined; entry = lane.idle.pop()) {
      entry.timer.clear()
      if (!entry.connection.alive) continue
      entry.connection.uses++
      return entry.connection
    }
    return undefined
  }

  #newSlot(lane: Lane): 'slot' {
    lane.open++
    return 'slot'
  }

  // For a fresh connection an idle one makes room.
  #giveUpIdle(lane: Lane): void {
    const entry = lane.idle.shift()
    entry?.timer.clear()
    entry?.connection.close()
  }

  // Its slot is counted already.
  async #connect(lane: Lane, client: ClientIdentity | undefined): Promise<BackendConnection> {
    const { servers: _servers, connectionsPerServer: _max, idle: _idle, clientAddress, ...options } = this.#options
    const prelude = (own: ProxyAddress) => connectionPrelude(clientAddress, client, own)
    try {
      const connection = await connectBackend({ ...options, server: lane.server, prelude })
      lane.profile = connection.profile
      lane.away = false
      connection.onClosed = () => this.#left(lane, connection)
      return connection
    } catch (error) {
      lane.away = true
      this.#freed(lane)
      throw error
    }
  }

  #left(lane: Lane, connection: BackendConnection): void {
    const at = lane.idle.findIndex((entry) => entry.connection === connection)
    if (at >= 0) for (const entry of lane.idle.splice(at, 1)) entry.timer.clear()
    this.#freed(lane)
  }

  // The slot goes to who waits longest, or back.
  #freed(lane: Lane): void {
    const next = lane.waiting.shift()
    if (next === undefined) lane.open--
    else next('slot')
  }

  #wait(lane: Lane): Promise<Handed> {
    return new Promise((resolve, reject) => {
      const timer = this.#clock.timer(this.#options.connectTimeout, () => {
        lane.waiting.splice(lane.waiting.indexOf(waiter), 1)
        reject(new BackendError('busy', lane.name, `all ${this.#options.connectionsPerServer} connections are in use`))
      })
      const waiter = (handed: Handed) => {
        timer.clear()
        resolve(handed)
      }
      lane.waiting.push(waiter)
    })
  }
}
