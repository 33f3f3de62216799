// Sends the samples and compares what came of each with what had to come of it.
// Promise: every answer is compared, the Maildir is looked through after every sample, and a stored file must end with exactly the octets
// that were sent (canonical form), with nothing before them but header fields of ours.
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseHeader } from '../../message/headers.ts'
import { type Address, CLOSED, converse } from './client.ts'
import type { Sample } from './samples.ts'

export interface Outcome {
  readonly what: string
  /** The answer that matters: the last one before the good-bye. */
  readonly answer: string
  /** New files, relative to the Maildir. */
  readonly files: readonly string[]
  /** How it differs from what was expected; empty: it does not. */
  readonly problems: readonly string[]
}

export interface Target {
  readonly server: Address
  readonly maildir: string
  /** Ends the sending between two samples. */
  readonly stop?: AbortSignal
}

/** Sends the samples one after the other. */
export async function sendSamples(samples: readonly Sample[], target: Target): Promise<Outcome[]> {
  const outcomes: Outcome[] = []
  let known = new Set(await newFiles(target.maildir))
  for (const sample of samples) {
    if (target.stop?.aborted) break
    const answers = await converse(target.server, sample.turns)
    const present = await newFiles(target.maildir)
    const files = present.filter((name) => !known.has(name))
    known = new Set(present)
    outcomes.push({
      what: sample.what,
      answer: answers.findLast((text) => text !== CLOSED && !text.startsWith('221')) ?? CLOSED,
      files: files.map((name) => join('new', name)),
      problems: [
        ...answerProblems(sample.answers, answers),
        ...(await storageProblems(
          sample.stored,
          files.map((name) => join(target.maildir, 'new', name)),
        )),
      ],
    })
  }
  return outcomes
}

async function newFiles(maildir: string): Promise<string[]> {
  try {
    return (await readdir(join(maildir, 'new'))).toSorted()
  } catch (error) {
    // Before the first connection there is no Maildir.
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return []
    throw error
  }
}

function answerProblems(expected: readonly string[], answers: readonly string[]): string[] {
  const problems: string[] = []
  for (let i = 0; i < Math.max(expected.length, answers.length); i++) {
    const wanted = expected[i]
    const got = answers[i]
    if (wanted !== undefined && got?.startsWith(wanted)) continue
    problems.push(`answer ${i + 1}: expected ${quoted(wanted)}, got ${quoted(got)}`)
    // What follows is out of step and would only repeat it.
    break
  }
  return problems
}

function quoted(text: string | undefined): string {
  return text === undefined ? 'none' : `"${text.trim()}"`
}

async function storageProblems(expected: Buffer | undefined, files: readonly string[]): Promise<string[]> {
  const wanted = expected === undefined ? 0 : 1
  if (files.length !== wanted) return [`files stored: expected ${wanted}, got ${files.length}`]
  const [file] = files
  if (expected === undefined || file === undefined) return []
  const problem = contentProblem(expected, await readFile(file))
  return problem === undefined ? [] : [`stored: ${problem}`]
}

const OURS = /^(?:Return-Path|Delivered-To|Received|Authentication-Results|X-Spam-[a-z]+|X-Postern-[a-z]+)$/i

/** What is wrong with a stored file, or undefined. */
export function contentProblem(sent: Buffer, stored: Buffer): string | undefined {
  const added = stored.length - sent.length
  if (added < 0) return `${-added} octets are missing`
  if (!stored.subarray(added).equals(sent)) return 'not the octets that were sent'
  const { fields } = parseHeader(stored.subarray(0, added))
  const ours = fields
    .filter((field) => OURS.test(field.name))
    .reduce((octets, field) => octets + field.end - field.start, 0)
  if (ours !== added) return 'something other than our headers stands before the message'
  // RFC 5321 4.4: a server that takes a message leaves its trace.
  if (!fields.some((field) => field.name === 'Received')) return 'the Received header is missing'
  return undefined
}
