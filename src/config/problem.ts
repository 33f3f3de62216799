// What is wrong with a configuration, in the words that the operator reads. All problems are collected and shown together: whoever mends a
// file wants to mend it once. Not taken: an error class for each kind of problem; nobody but the reader of the text tells them apart.

/** Keys of this kind may have a secret as their value: it is never repeated. */
export const SECRET = /pass|secret|key|token/i

/** Keys and list indices from the top of the configuration down. */
export type Path = readonly (string | number)[]

export interface Problem {
  /** `postern.yaml:12:3`, `domains.txt:4` or `environment POSTERN_HOSTNAME`. */
  readonly where?: string
  /** `listeners[0].name`; empty where the problem belongs to no setting, as with a syntax error. */
  readonly path: string
  readonly message: string
}

/** A problem together with its place in reading order. */
export interface OrderedProblem extends Problem {
  readonly order: number
}

/** Thrown for a configuration that cannot be used; the message holds all problems, one a line. */
export class ConfigError extends Error {
  readonly problems: readonly Problem[]

  constructor(problems: readonly Problem[]) {
    super(problems.map(problemLine).join('\n'))
    this.name = 'ConfigError'
    this.problems = problems
  }
}

function problemLine(problem: Problem): string {
  return [problem.where ?? '', problem.path, problem.message].filter((part) => part !== '').join(': ')
}

/** A path as the README writes it: `listeners[0].name`. */
export function pathText(path: Path): string {
  let text = ''
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`
    else text += `${text === '' ? '' : '.'}${keyText(part)}`
  }
  return text
}

/** A strange key may be `password:xyz`, where a blank is missing. */
function keyText(key: string): string {
  if (/^[\w-]{1,64}$/.test(key)) return key
  return SECRET.test(key) ? '"…"' : quoted(key)
}

/** A text in quotes, short, and without anything that a terminal or a log would take for more than a letter (P10). */
export function quoted(text: string): string {
  const short = text.length > 60 ? `${text.slice(0, 60)}…` : text
  return JSON.stringify(short).replace(/(?! )[\p{C}\p{Z}]/gu, (char) => `\\u{${char.codePointAt(0)?.toString(16)}}`)
}
