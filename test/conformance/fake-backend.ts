// The scripted backend of one case: a port of its own, one record of all its connections.
import { type AddressInfo, createServer, type Server } from 'node:net'
import { BackendRecord, type HarnessEvents } from './backend-record.ts'
import { defaultExtensions, RuleBook } from './backend-rules.ts'
import { BackendSession } from './backend-session.ts'
import type { Certificate } from './certificates.ts'
import type { BackendRule } from './format.ts'

export interface BackendOptions {
  readonly rules: readonly BackendRule[]
  /** Announce AUTH: the submission profiles relay it to the backend. */
  readonly auth: boolean
  readonly events: HarnessEvents
  readonly certificate: () => Promise<Certificate>
}

export class FakeBackend {
  readonly record: BackendRecord
  readonly port: number
  readonly #server: Server
  readonly #sessions: BackendSession[]

  private constructor(server: Server, record: BackendRecord, sessions: BackendSession[]) {
    this.record = record
    this.port = (server.address() as AddressInfo).port
    this.#server = server
    this.#sessions = sessions
  }

  static listen(options: BackendOptions): Promise<FakeBackend> {
    const record = new BackendRecord(options.events)
    const rules = new RuleBook(options.rules, defaultExtensions({ auth: options.auth }))
    const sessions: BackendSession[] = []
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      sessions.push(
        new BackendSession(socket, sessions.length + 1, { record, rules, certificate: options.certificate }),
      )
    })
    return new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen(0, '127.0.0.1', () => resolve(new FakeBackend(server, record, sessions)))
    })
  }

  close(): Promise<void> {
    for (const session of this.#sessions) session.destroy()
    return new Promise((resolve) => this.#server.close(() => resolve()))
  }
}
