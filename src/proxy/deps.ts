// What the proxy needs from the rest of the house, as one parameter: the composition root (app.ts) fills it in, tests fill it in with fakes.
import type { FilterChain } from '../filter/chain.ts'
import type { Logger } from '../filter/context.ts'
import type { ActionThresholds, WeightOf } from '../filter/score.ts'
import type { MessageStorage } from '../message/message.ts'
import type { Clock } from '../net/clock.ts'
import type { NetworkSet } from '../net/ip.ts'
import type { EventBus } from '../observe/events.ts'
import type { AuthGuard } from './auth-guard.ts'
import type { Destination } from './destination.ts'
import type { RelayPolicy } from './relay.ts'
import type { TlsTerminator } from './tls.ts'

/** Sizes in octets, times in milliseconds. */
export interface Limits {
  readonly messageSize: number
  readonly recipients: number
  readonly unknownRecipients: number
  readonly headerSize: number
  readonly headerFields: number
  readonly received: number
  readonly lineLength: number
  readonly commandLine: number
  readonly errorsSoft: number
  readonly errors: number
  readonly junkCommands: number
  readonly connections: number
  readonly connectionsPerAddress: number
  readonly idle: number
  /** Octets a second. */
  readonly dataRate: number
  readonly dataTime: number
  readonly endOfData: number
  readonly stopGrace: number
  readonly authFailures: number
}

export interface ListenerOptions {
  readonly name: string
  readonly kind: 'mx' | 'submission'
  readonly bareNewline: 'normalize' | 'reject'
  /** How and with what TLS is offered. */
  readonly tls: { readonly mode: 'starttls' | 'required' | 'implicit'; readonly terminator: TlsTerminator } | undefined
  /** Who must begin with a PROXY header, and nobody else may connect; empty: no PROXY protocol. */
  readonly proxyFrom: NetworkSet
  /** Who may say with XCLIENT or XFORWARD who the client is. */
  readonly xclientFrom: NetworkSet
  /** Whether BDAT is offered. */
  readonly chunking: boolean
}

export interface ProxyDeps {
  readonly hostname: string
  readonly limits: Limits
  readonly clock: Clock
  readonly log: Logger
  readonly events: EventBus
  readonly destination: Destination
  readonly relay: RelayPolicy
  readonly storage: MessageStorage
  /** Whether the spool's disk has room for that many octets more. */
  hasRoom(octets: number): Promise<boolean>
  /** The filters of a listener. */
  chain(listener: string): FilterChain
  readonly authGuard: AuthGuard
  readonly weightOf: WeightOf
  readonly actions: ActionThresholds
  /** A new id for a session. */
  newId(): string
}
