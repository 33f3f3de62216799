// One message while we hold it: decoded octets, in memory up to a limit, above it in a spool file without a name.
// Promise: memory is bounded by `memory` plus the header; a crash leaves no file behind, since the file is unlinked as soon as it is open;
// a full disk is an error of type SpoolError and nothing else; `dispose` releases everything, whenever it is called.
// Not taken: moving the beginning to the file as well. The header stays at hand for everybody who looks at it.
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, open, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { firstLine, type HeaderBlock, parseHeader } from './headers.ts'

export interface MessageStorage {
  /** Octets kept in memory; the header always is. */
  readonly memory: number
  /** The folder for spool files. */
  readonly spoolDir: string
  /** Octets that a header may have: up to here memory may grow when the header is longer than `memory`. */
  readonly headerSize: number
  /** Fields that a header may have. */
  readonly headerFields: number
}

/** The disk did not take or give what it should: a deferral, never a loss. */
export class SpoolError extends Error {
  override readonly name = 'SpoolError'
}

const FIRST_ALLOCATION = 8 * 1024
const HEADER_STEP = 16 * 1024
const SLAB = 64 * 1024
const READ_SIZE = 64 * 1024
const EMPTY_LINE = Buffer.from('\r\n\r\n')

export class Message {
  readonly #storage: MessageStorage
  #head = Buffer.alloc(0)
  #headSize = 0
  #size = 0
  #file: Promise<FileHandle> | undefined
  #fileSize = 0
  #writing: Promise<void> = Promise.resolve()
  #unwritten = 0
  #slab: Buffer | undefined
  #slabSize = 0
  #failure: SpoolError | undefined
  #headerEnd = false
  #searched = 0
  #disposed = false
  #header: HeaderBlock | undefined

  constructor(storage: MessageStorage) {
    this.#storage = storage
  }

  get size(): number {
    return this.#size
  }

  /** Appends a copy of `bytes`. After it, wait for `settled` when `lagging`. */
  append(bytes: Buffer): void {
    if (this.#disposed || this.#failure !== undefined) return
    this.#size += bytes.length
    let from = 0
    for (let room = this.#roomInMemory(); room > 0 && from < bytes.length; room = this.#roomInMemory()) {
      const to = Math.min(bytes.length, from + room)
      this.#appendToMemory(bytes.subarray(from, to))
      from = to
    }
    if (from < bytes.length) this.#appendToFile(bytes.subarray(from))
  }

  /** The disk is behind: reading on would only move the message into memory. */
  get lagging(): boolean {
    return this.#unwritten > READ_SIZE * 4
  }

  /** Waits until everything appended is stored; throws SpoolError where the disk refused. */
  async settled(): Promise<void> {
    this.#writeSlab()
    await this.#writing
    if (this.#failure !== undefined) throw this.#failure
  }

  /** The beginning of the message, with the whole header (up to the limit of a header). */
  get head(): Buffer {
    return this.#head.subarray(0, this.#headSize)
  }

  /** The header, parsed once; call it when the message is complete. */
  header(): HeaderBlock {
    // One more than allowed is enough to know.
    this.#header ??= parseHeader(this.head, this.#storage.headerFields + 1)
    return this.#header
  }

  /** Octets from `from` to the end, in pieces. */
  async *chunks(from = 0): AsyncGenerator<Buffer, void, void> {
    if (from < this.#headSize) yield this.#head.subarray(from, this.#headSize)
    if (this.#file === undefined) return
    await this.settled()
    const file = await this.#file
    for (let at = Math.max(0, from - this.#headSize); at < this.#fileSize; ) {
      const buffer = Buffer.allocUnsafe(Math.min(READ_SIZE, this.#fileSize - at))
      const { bytesRead } = await spoolCall(() => file.read(buffer, 0, buffer.length, at))
      if (bytesRead === 0) throw new SpoolError('spool file ended early')
      at += bytesRead
      yield buffer.subarray(0, bytesRead)
    }
  }

  /** The whole message in one buffer. */
  async bytes(): Promise<Buffer> {
    if (this.#file === undefined) return this.head
    const parts: Buffer[] = []
    for await (const part of this.chunks()) parts.push(part)
    return Buffer.concat(parts)
  }

  /** Gives back memory and file. Safe to call more than once, and while a write is under way. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    this.#head = Buffer.alloc(0)
    this.#headSize = 0
    this.#slab = undefined
    const file = this.#file
    this.#file = undefined
    if (file === undefined) return
    const close = async () => (await file).close()
    // The file has no name any more: a failing close leaks nothing that somebody could find or lose.
    this.#writing = this.#writing.then(close).catch(() => {})
  }

  // Up to `memory` anything; beyond it step by step as long as the header goes on.
  #roomInMemory(): number {
    if (this.#file !== undefined) return 0
    const { memory, headerSize } = this.#storage
    if (this.#headSize < memory) return memory - this.#headSize
    if (this.#headerEnded()) return 0
    return Math.min(HEADER_STEP, headerSize + HEADER_STEP - this.#headSize)
  }

  // Looks only at what came since it was asked last: a hostile message comes in two octets at a time.
  #headerEnded(): boolean {
    if (this.#headerEnd) return true
    if (this.#searched === 0) {
      const first = firstLine(this.head)
      this.#headerEnd = first === 'text' || first === 'empty'
    }
    this.#headerEnd ||= this.head.indexOf(EMPTY_LINE, Math.max(0, this.#searched - EMPTY_LINE.length)) >= 0
    this.#searched = this.#headSize
    return this.#headerEnd
  }

  #appendToMemory(bytes: Buffer): void {
    const needed = this.#headSize + bytes.length
    if (needed > this.#head.length) {
      const grown = Buffer.allocUnsafe(Math.max(FIRST_ALLOCATION, needed, this.#head.length * 2))
      this.#head.copy(grown, 0, 0, this.#headSize)
      this.#head = grown
    }
    bytes.copy(this.#head, this.#headSize)
    this.#headSize = needed
  }

  // Collected to pieces of a useful size: a hostile message comes in two octets at a time.
  #appendToFile(bytes: Buffer): void {
    this.#file ??= this.#open()
    for (let from = 0; from < bytes.length; ) {
      this.#slab ??= Buffer.allocUnsafe(SLAB)
      const copied = bytes.copy(this.#slab, this.#slabSize, from)
      from += copied
      this.#slabSize += copied
      if (this.#slabSize === SLAB) this.#writeSlab()
    }
  }

  // A failure is noted here: nobody may be waiting for the file yet, and a rejection without a listener ends the process.
  #open(): Promise<FileHandle> {
    const file = openUnlinked(this.#storage.spoolDir)
    file.catch((error: unknown) => {
      this.#failure ??= error instanceof SpoolError ? error : new SpoolError(String(error))
    })
    return file
  }

  #writeSlab(): void {
    const file = this.#file
    const slab = this.#slab?.subarray(0, this.#slabSize)
    if (file === undefined || slab === undefined) return
    const at = this.#fileSize
    this.#fileSize += slab.length
    this.#unwritten += slab.length
    this.#slab = undefined
    this.#slabSize = 0
    this.#writing = this.#writing
      .then(async () => {
        if (this.#failure === undefined) await writeAll(await file, slab, at)
      })
      .catch((error: unknown) => {
        this.#failure ??= error instanceof SpoolError ? error : new SpoolError(String(error))
      })
      .finally(() => {
        this.#unwritten -= slab.length
      })
  }
}

async function openUnlinked(dir: string): Promise<FileHandle> {
  const path = join(dir, `${randomBytes(12).toString('hex')}.msg`)
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
  return spoolCall(async () => {
    const file = await open(path, flags, 0o600)
    try {
      await unlink(path)
    } catch (error) {
      // Gone already is as good: a gateway that starts beside this one sweeps the folder.
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) {
        await file.close()
        throw error
      }
    }
    return file
  })
}

async function writeAll(file: FileHandle, bytes: Buffer, at: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await spoolCall(() => file.write(bytes, done, bytes.length - done, at + done))
    done += bytesWritten
  }
}

async function spoolCall<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (error) {
    throw new SpoolError(error instanceof Error ? error.message : String(error), { cause: error })
  }
}
