// The backend connection on which a client has logged in: it belongs to that session until it ends.
// Promise: it is never pooled and never replaced, since no credentials are kept. A transaction that is given up is reset by RSET, and where
// that cannot be (in the middle of a message, or the server does not take it) the connection is closed, and with it the login.
import type { Reply } from '../smtp/reply.ts'
import type { BackendConnection } from './backend.ts'
import { BackendError, type PinnedBackend } from './destination.ts'

export class PinnedConnection implements PinnedBackend {
  readonly #connection: BackendConnection

  constructor(connection: BackendConnection) {
    this.#connection = connection
  }

  get alive(): boolean {
    return this.#connection.alive
  }

  say(line: string): Promise<Reply> {
    return this.#connection.exchange(line)
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
    this.#connection.close()
  }
}
