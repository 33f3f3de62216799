// The backend connection on which a client has logged in: it belongs to that session until it ends.
// Promise: it is never pooled and never replaced, since no credentials are kept. A transaction that is given up is reset by RSET, and where
// that cannot be (in the middle of a message, or the server does not take it) the connection is closed, and with it the login.
import type { Reply } from '../smtp/reply.ts'
import type { BackendConnection } from './backend.ts'
import { BackendError, type PinnedBackend } from './destination.ts'

export class PinnedConnection implements PinnedBackend {
  readonly #connection: BackendConnection
  /** The server waits for an answer to its 334. */
  #challenged = false

  constructor(connection: BackendConnection) {
    this.#connection = connection
  }

  get alive(): boolean {
    return this.#connection.alive
  }

  async say(line: string): Promise<Reply> {
    this.#challenged = false
    const r = await this.#connection.exchange(line)
    this.#challenged = r.code === 334
    return r
  }

  /** For the next transaction. Throws BackendError where it is lost. */
  take(): BackendConnection {
    if (!this.#connection.alive) throw new BackendError('lost', this.#connection.server, 'lost, and with it the login')
    return this.#connection
  }

  reset(): void {
    if (!this.#connection.alive) return
    if (!this.#connection.clean) {
      this.#connection.destroy()
      return
    }
    this.#connection.command('RSET').then(
      (r) => {
        if (r.code !== 250) this.#connection.destroy()
      },
      () => {}, // it is lost: `alive` tells
    )
  }

  close(): void {
    if (!this.#challenged) {
      this.#connection.close()
      return
    }
    // RFC 4954 4: an exchange is cancelled with "*". QUIT is good base64: it would be taken for an answer, and count as a failed login of the
    // client's address.
    this.say('*').then(
      () => this.#connection.close(),
      () => {}, // it is lost
    )
  }
}
