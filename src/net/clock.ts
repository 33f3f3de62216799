// Time as a parameter. Deadlines run on the monotonic clock, so that a jump of the wall clock neither ends nor extends a session;
// only dates in headers and certificates ask the wall clock.

export interface Timer {
  clear(): void
}

export interface Clock {
  /** Monotonic milliseconds. */
  now(): number
  wall(): Date
  timer(milliseconds: number, fire: () => void): Timer
}

// setTimeout takes 31 bits: a longer time would fire at once.
const TIMER_MAX = 0x7fff_ffff

export const systemClock: Clock = {
  now: () => performance.now(),
  wall: () => new Date(),
  timer(milliseconds, fire) {
    const timer = setTimeout(fire, Math.min(milliseconds, TIMER_MAX))
    return { clear: () => clearTimeout(timer) }
  },
}
