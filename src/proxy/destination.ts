// Where approved mail goes, as the session sees it: an SMTP server or a Maildir. One contract, so that neither is a special case.
// The steps follow the dialogue: mail, rcpt (each answered by the destination itself), deliver; or abort at any time.
import type { Address } from '../smtp/address.ts'
import type { MailParameters, Offer, RcptParameters } from '../smtp/extensions.ts'
import { type Reply, reply } from '../smtp/reply.ts'
import type { ClientIdentity } from './identity.ts'

export interface Envelope {
  readonly reversePath: Address | null
  readonly parameters: MailParameters
}

export interface EnvelopeRecipient {
  readonly address: Address
  readonly parameters: RcptParameters
}

export interface Destination {
  /** What clients may use, from what every server behind it announced; undefined while none has been reached. */
  offer(): Offer | undefined
  /** Reaches out to learn what may be offered. Rejects with BackendError. */
  learn(): Promise<void>
  /** Whether mail can be handed on now, as far as is known without trying. */
  available(): boolean
  /** `pinned`: the connection on which the client has logged in; the message goes over it and no other. */
  open(envelope: Envelope, client: ClientIdentity, pinned?: PinnedBackend): DestinationTransaction
  /** A connection of its own for a client that wants to log in; the client's address has been told on it. Rejects with BackendError. */
  pin(client: ClientIdentity): Promise<PinnedBackend>
  /** Closes what is idle; running transactions are their owners'. */
  close(): Promise<void>
}

/** A backend connection that belongs to one session: no credentials are kept, so it can be neither pooled nor replaced. */
export interface PinnedBackend {
  readonly alive: boolean
  /** Sends a line of an AUTH exchange. Rejects with BackendError, which never repeats the line. */
  say(line: string): Promise<Reply>
  close(): void
}

export interface DestinationTransaction {
  /** Rejects with BackendError. */
  mail(): Promise<Reply>
  /** May be called again before the first has answered: the commands are pipelined. Rejects with BackendError. */
  rcpt(recipient: EnvelopeRecipient): Promise<Reply>
  deliver(parcel: Parcel): Promise<Delivered>
  /** Ends the transaction without delivering. Safe at any time, and after the end. */
  abort(): void
}

export interface Parcel {
  readonly id: string
  /** The message as it is to be delivered: canonical CRLF, no dot-stuffing. May be asked for once. */
  content(): AsyncIterable<Buffer>
  /** P2: asked immediately before the commit (the dot, the rename). False: the client is gone. */
  wanted(): boolean
}

export type Delivered =
  /** The destination answered the dot (or DATA, with a refusal). */
  | { readonly kind: 'answered'; readonly reply: Reply; readonly server: string }
  /** Not committed, for this reason. */
  | { readonly kind: 'failed'; readonly error: BackendError }
  /** Committed, and the answer was lost: nobody knows (RFC 1047). */
  | { readonly kind: 'unknown'; readonly server: string; readonly why: string }
  /** The client was gone before the commit. */
  | { readonly kind: 'withdrawn' }

export type BackendFault =
  | 'unreachable' // no connection, a bad greeting, no EHLO
  | 'tls' // no TLS, or not with whom it should be
  | 'timeout' // no answer to a command
  | 'lost' // the connection broke under a command
  | 'garbage' // what came was no SMTP
  | 'busy' // all connections in use
  | 'incapable' // lacks what the client was told it may use
  | 'storage' // the disk did not take it

/** A failure of the backend or of the way to it. Never the client's fault, so never a 5xx (P6). */
export class BackendError extends Error {
  override readonly name = 'BackendError'
  readonly fault: BackendFault
  readonly server: string

  constructor(fault: BackendFault, server: string, what: string, cause?: unknown) {
    super(what, { cause })
    this.fault = fault
    this.server = server
  }
}

/** What the client is told; which server it was and what it did is for the log. */
export function faultReply(fault: BackendFault): Reply {
  switch (fault) {
    case 'unreachable':
    case 'timeout':
      return reply(451, [4, 1], 'Mail system not reachable, try again later')
    case 'tls':
      return reply(451, [7, 5], 'Mail system not ready for mail, try again later')
    case 'lost':
      return reply(451, [4, 2], 'Connection inside the mail system lost, try again later')
    case 'garbage':
    case 'incapable':
      return reply(451, [3, 0], 'Local problem, try again later')
    case 'busy':
      return reply(451, [3, 2], 'Mail system busy, try again later')
    case 'storage':
      return reply(452, [3, 1], 'Out of storage, try again later')
  }
}
