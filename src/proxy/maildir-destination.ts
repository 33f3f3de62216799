// Mail for a Maildir: the embedded backend, for trying the gateway out and for collecting mail without a server.
// Promise (P1): 250 only after the message is in new/ and both the file and the folder are on the disk (tmp, fsync, rename, fsync).
// Octets are kept as they are, CRLF line ends included; Maildir readers take both. Every recipient shares the one Maildir.
import { randomBytes } from 'node:crypto'
import { type FileHandle, mkdir, open, rename, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../net/clock.ts'
import { addressText } from '../smtp/address.ts'
import type { Offer } from '../smtp/extensions.ts'
import { type Reply, reply } from '../smtp/reply.ts'
import {
  BackendError,
  type Delivered,
  type Destination,
  type DestinationTransaction,
  type Envelope,
  type EnvelopeRecipient,
  type Parcel,
  type PinnedBackend,
} from './destination.ts'

const OFFER: Offer = {
  size: Number.POSITIVE_INFINITY,
  eightBitMime: true,
  smtpUtf8: true,
  // A Maildir sends no delivery status notifications.
  dsn: false,
  auth: [],
}

export interface MaildirOptions {
  readonly path: string
  readonly hostname: string
  readonly clock: Clock
}

export class MaildirDestination implements Destination {
  readonly #options: MaildirOptions
  #ready = false

  constructor(options: MaildirOptions) {
    this.#options = options
  }

  offer(): Offer | undefined {
    return this.#ready ? OFFER : undefined
  }

  /** Makes the three folders where they are missing. Rejects with BackendError (`storage`). */
  async learn(): Promise<void> {
    try {
      for (const part of ['tmp', 'new', 'cur'])
        await mkdir(join(this.#options.path, part), { recursive: true, mode: 0o700 })
    } catch (error) {
      throw storageError(error)
    }
    this.#ready = true
  }

  available(): boolean {
    return this.#ready
  }

  async pin(): Promise<PinnedBackend> {
    throw new BackendError('incapable', 'maildir', 'a Maildir knows no logins')
  }

  open(envelope: Envelope): DestinationTransaction {
    return new MaildirTransaction(this.#options, envelope)
  }

  async close(): Promise<void> {}
}

class MaildirTransaction implements DestinationTransaction {
  readonly #options: MaildirOptions
  readonly #envelope: Envelope
  readonly #recipients: EnvelopeRecipient[] = []
  #over = false

  constructor(options: MaildirOptions, envelope: Envelope) {
    this.#options = options
    this.#envelope = envelope
  }

  async mail(): Promise<Reply> {
    return reply(250, [1, 0], 'Ok')
  }

  async rcpt(recipient: EnvelopeRecipient): Promise<Reply> {
    this.#recipients.push(recipient)
    return reply(250, [1, 5], 'Ok')
  }

  abort(): void {
    this.#over = true
  }

  async deliver(parcel: Parcel): Promise<Delivered> {
    const { path } = this.#options
    const name = this.#fileName()
    const temporary = join(path, 'tmp', name)
    try {
      await this.#write(temporary, parcel)
      if (this.#over || !parcel.wanted()) {
        await unlink(temporary)
        return { kind: 'withdrawn' }
      }
      await rename(temporary, join(path, 'new', name))
    } catch (error) {
      await unlink(temporary).catch(() => {}) // it may never have been made
      return { kind: 'failed', error: storageError(error) }
    }
    try {
      await syncFolder(join(path, 'new'))
    } catch (error) {
      // It is visible and perhaps not on the disk: telling the client "not taken" could double it, "taken" could lose it.
      return { kind: 'unknown', server: 'maildir', why: String(error) }
    }
    return { kind: 'answered', reply: reply(250, [0, 0], `Ok: stored as ${name}`), server: 'maildir' }
  }

  // RFC 5321 4.4: the last server writes Return-Path; Delivered-To only where it tells nobody of others.
  #header(): Buffer {
    const only = this.#recipients.length === 1 ? this.#recipients[0] : undefined
    const deliveredTo = only === undefined ? '' : `Delivered-To: ${addressText(only.address)}\r\n`
    return Buffer.from(`Return-Path: <${addressText(this.#envelope.reversePath)}>\r\n${deliveredTo}`)
  }

  async #write(file: string, parcel: Parcel): Promise<void> {
    const handle = await open(file, 'wx', 0o600)
    try {
      await writeAll(handle, this.#header())
      for await (const chunk of parcel.content()) await writeAll(handle, chunk)
      await handle.sync()
    } finally {
      await handle.close()
    }
  }

  // The Maildir convention: seconds, something unique, host.
  #fileName(): string {
    const { clock, hostname } = this.#options
    const seconds = Math.trunc(clock.wall().getTime() / 1000)
    return `${seconds}.P${process.pid}R${randomBytes(10).toString('hex')}.${hostname.replace(/[/:]/g, '_')}`
  }
}

function storageError(error: unknown): BackendError {
  return new BackendError('storage', 'maildir', error instanceof Error ? error.message : String(error), error)
}

async function writeAll(handle: FileHandle, bytes: Buffer): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await handle.write(bytes, done, bytes.length - done)).bytesWritten
  }
}

async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
