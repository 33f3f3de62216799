// npm run bench [-- throughput latency memory] [--messages N] [--rounds N] [--idle N] [--cpu-prof FOLDER]
// How fast the gateway passes mail on, beside Postfix's own empty proxy and the bare sink, on this machine and in this hour: the rounds of
// the three take turns, so that whatever else the machine does falls on all of them. Prints Markdown and writes test/bench/results/*.json.
// Not taken: absolute figures as a test. They would fail on every busy machine; the ratio is what says something.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { skipWithout } from '../support/peers.ts'
import { postconf } from '../support/postfix.ts'
import { median, percentile, rounded, table } from './figures.ts'
import { type Load, messageTimes, sourceRate } from './load.ts'
import { idleMemory } from './memory.ts'
import { benchGateway, startWays, WAYS, type Way, type Ways } from './ways.ts'

const SIZE = 5000
const SESSIONS = 20
const WARM_UP = 300
/** Two hosts that wait for each other (Nagle against delayed ACK) wait 40 ms. */
const STALL = 35
const NAMES: Readonly<Record<Way, string>> = {
  gateway: 'Postern, no filters',
  postfix: "Postfix's empty proxy",
  direct: 'directly to the sink',
}

interface Options {
  readonly messages: number
  readonly rounds: number
  readonly idle: number
  readonly nodeOptions: readonly string[]
}

type ByWay<T> = Readonly<Record<Way, T>>

function byWay<T>(value: (way: Way) => T): ByWay<T> {
  return { gateway: value('gateway'), postfix: value('postfix'), direct: value('direct') }
}

/** One measurement of every way in each round. */
async function takeTurns<T>(ways: Ways, rounds: number, measure: (port: number) => Promise<T>): Promise<ByWay<T[]>> {
  const taken = byWay<T[]>(() => [])
  for (let round = 0; round < rounds; round++) for (const way of WAYS) taken[way].push(await measure(ways.ports[way]))
  return taken
}

async function throughput(ways: Ways, { messages, rounds }: Options) {
  const load = (port: number, sessions: number, count: number): Load => ({
    port,
    sessions,
    messages: count,
    size: SIZE,
  })
  await takeTurns(ways, 1, (port) => sourceRate(load(port, SESSIONS, WARM_UP)))
  const many = await takeTurns(ways, rounds, (port) => sourceRate(load(port, SESSIONS, messages)))
  const alone = await takeTurns(ways, rounds, (port) => sourceRate(load(port, 1, Math.ceil(messages / 10))))
  const rate = byWay((way) => rounded(median(many[way])))
  const aloneRate = byWay((way) => rounded(median(alone[way])))
  const ratio = rounded(rate.gateway / rate.postfix, 2)
  const rows = WAYS.map((way) => [NAMES[way], rate[way], many[way].map(Math.round).join(' '), aloneRate[way]])
  const head = ['messages a second', `${SESSIONS} sessions (median)`, 'each round', '1 session']
  say(table([head, ...rows]))
  say(`\nRatio to Postfix's empty proxy at ${SESSIONS} sessions: ${ratio}\n`)
  return { sessions: SESSIONS, rate, rounds: many, oneSession: aloneRate, ratio }
}

async function latency(ways: Ways, { messages, rounds }: Options) {
  const rows: (string | number)[][] = [
    ['milliseconds a message', 'sessions', 'p50', 'p99', 'longest', `over ${STALL} ms`],
  ]
  const results = []
  for (const sessions of [1, SESSIONS]) {
    const load = { sessions, messages: Math.ceil(messages / 6), size: SIZE }
    const taken = await takeTurns(ways, rounds, (port) => messageTimes({ ...load, port }))
    for (const way of WAYS) {
      const times = taken[way].flat()
      const figures = {
        p50: rounded(median(times), 2),
        p99: rounded(percentile(times, 0.99), 2),
        longest: rounded(Math.max(...times), 2),
        stalls: times.filter((time) => time > STALL).length,
      }
      rows.push([
        NAMES[way],
        sessions,
        figures.p50,
        figures.p99,
        figures.longest,
        `${figures.stalls} of ${times.length}`,
      ])
      results.push({ way, sessions, messages: times.length, ...figures })
    }
  }
  say(`${table(rows)}\n`)
  return results
}

async function memory(ways: Ways, folder: string, { idle }: Options) {
  const gateway = await benchGateway(join(folder, 'idle'), ways.ports.direct, [])
  try {
    const { sessions, before, after } = await idleMemory(gateway, idle)
    const growth = rounded(after - before)
    say(
      table([
        ['MiB resident', 'before', `with ${sessions} idle sessions`, 'growth'],
        ['Postern', rounded(before), rounded(after), growth],
      ]),
    )
    return { sessions, before: rounded(before), after: rounded(after), growth }
  } finally {
    await gateway.end('TERM')
  }
}

function machine() {
  const [processor] = cpus()
  return {
    cores: availableParallelism(),
    processor: processor?.model ?? 'unknown',
    node: process.version,
    postfix: postconf('mail_version'),
    load: loadavg().map((value) => rounded(value, 2)),
    date: new Date().toISOString(),
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

const PARTS = ['throughput', 'latency', 'memory']

function obstacle(parts: readonly string[], counts: readonly number[]): string | false {
  const unknown = parts.find((name) => !PARTS.includes(name))
  if (unknown !== undefined) return `no such part: ${unknown} (there are ${PARTS.join(', ')})`
  if (!counts.every((count) => Number.isInteger(count) && count > 0)) return 'expected whole numbers above 0'
  if (process.getuid?.() !== 0) return 'only root can start the Postfix to compare with'
  return skipWithout('smtp-source', 'smtp-sink', 'postfix')
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      messages: { type: 'string', default: '3000' },
      rounds: { type: 'string', default: '5' },
      idle: { type: 'string', default: '1000' },
      'cpu-prof': { type: 'string' },
    },
  })
  const counts = [values.messages, values.rounds, values.idle].map(Number)
  const problem = obstacle(positionals, counts)
  if (problem !== false) {
    process.stderr.write(`${problem}\n`)
    return 64
  }
  const profile = values['cpu-prof']
  const [messages = 0, rounds = 0, idle = 0] = counts
  const options: Options = {
    messages,
    rounds,
    idle,
    nodeOptions: profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${resolve(profile)}`],
  }
  await bench(new Set(positionals.length === 0 ? PARTS : positionals), options)
  return 0
}

async function bench(parts: ReadonlySet<string>, options: Options): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'postern-bench-'))
  const around = machine()
  say(
    `${around.cores} cores (${around.processor}), Node ${around.node}, Postfix ${around.postfix}, load ${around.load.join(' ')}\n`,
  )
  const ways = await startWays({ folder, nodeOptions: options.nodeOptions })
  const results: Record<string, unknown> = { machine: around, ...options }
  try {
    if (parts.has('throughput')) results.throughput = await throughput(ways, options)
    if (parts.has('latency')) results.latency = await latency(ways, options)
    if (parts.has('memory')) results.memory = await memory(ways, folder, options)
  } finally {
    await ways.stop()
    await rm(folder, { recursive: true, force: true })
  }
  const place = fileURLToPath(new URL('./results/', import.meta.url))
  await mkdir(place, { recursive: true })
  const file = join(place, `${around.date.replaceAll(':', '-')}.json`)
  await writeFile(file, `${JSON.stringify(results, null, 2)}\n`)
  say(`\n${JSON.stringify(results)}\n\nwritten to ${file}`)
}

process.exitCode = await main()
