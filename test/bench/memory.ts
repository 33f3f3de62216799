// What idle sessions cost: resident memory of the gateway before and after so many clients said EHLO and stay.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Gateway } from '../conformance/gateway.ts'
import { Talk } from '../support/talk.ts'

export interface IdleMemory {
  readonly sessions: number
  /** MiB. */
  readonly before: number
  readonly after: number
}

// Several opening at a time, as clients come; all at once would measure the backlog.
const AT_A_TIME = 20
const SETTLE = 2000

export async function idleMemory(gateway: Gateway, sessions: number): Promise<IdleMemory> {
  const open: Talk[] = []
  let left = sessions
  const worker = async (): Promise<void> => {
    while (left-- > 0) open.push(await Talk.greeted(gateway.port))
  }
  try {
    // The code of a session is loaded and compiled once, whoever comes.
    ;(await Talk.greeted(gateway.port)).destroy()
    await sleep(SETTLE)
    const before = (await gateway.memory()) ?? Number.NaN
    await Promise.all(Array.from({ length: AT_A_TIME }, worker))
    await sleep(SETTLE)
    const after = (await gateway.memory()) ?? Number.NaN
    return { sessions: open.length, before, after }
  } finally {
    for (const talk of open) talk.destroy()
  }
}
