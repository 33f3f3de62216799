// Dialogues as text: what a client, the gateway and a backend say to each other, line by line. This file describes and reads the language;
// dialog.ts runs it.
//
//   # what the dialogue shows
//   limits: {recipients: 2}          any part of postern.yaml (the domain example.org and the host mx.example.org are there already)
//   @client 192.0.2.9                where the client comes from
//   @backend PIPELINING, SIZE 1000   what the backend announces; `@backend manual`: greeting and EHLO are steps of the script as well
//   @submission                      the listener is one for users, under TLS from the start; `@submission clear`: without TLS
//   @secret WORD                     no log line and no event may hold the word, in clear or in base64
//   @filter NAME STAGE ANSWER        a filter: reject, defer, hangup, trust, throw, hang, after 2s SYMBOL, or SYMBOL
//   @weight SYMBOL 20                as in scores.yaml
//   @room 1000                       octets that the disk has room for
//   @spool broken                    the spool folder is missing
//   ---
//   c: EHLO client.example.net       the client sends this line; CRLF is added; neighbouring c: lines leave in one write
//   c!: .\r\n                        the client sends exactly this
//   s: 250 2.1.0                     the next reply to the client starts so (every `250-` shown as `250 `, lines joined by \n)
//   b: MAIL FROM:<a@example.net>     the next line that the backend gets is this; b2: on the second connection made, b: on the newest
//   w: RCPT TO:<a@x> | RCPT TO:<b@x> the next write to the backend holds exactly these lines
//   b: ...                           whatever lines come, up to the one that the next b: names
//   B: 250 2.0.0 ok                  the backend says this line; B!: exactly this
//   Bclose  Brst  Bpause             the backend closes or breaks its connection, or reads no more
//   Cpause                           the client reads no more
//   Bdrop                            what else the backend got on this connection does not matter
//   dial: refuse                     from here on connections to the backend are refused (`dial: accept`: no longer)
//   dials: 2                         so many connections to the backend were made up to here
//   t: 300s                          time goes by
//   close  rst  connect              the client closes, or breaks, its connection; another client comes (`connect: 192.0.2.8`: from there)
//   gone: s                          the gateway has closed the connection to the client; gone: b  to the backend
//   quiet                            nothing more was said to either side
//   outcome: delivered               how the next transaction ended, as the log has it
//   reason: not reachable            a word of its reason
//   ended: quit                      how the session ended
//   stop  cutoff                     the gateway stops; the grace is over
//
// Short forms: `hello` (greeting and EHLO), `envelope` (MAIL and one RCPT, both accepted by the backend), `message` (DATA, a small message
// and its dot), `taken` (the backend takes the message, and the client hears so), `bye` (QUIT), `login` (AUTH PLAIN as jim with the
// password tulip, which the newest backend connection takes).
// In every text \r \n \0 \t \xNN stand for octets, and {{a*70}} for seventy a; a pattern is written /…/. c*30: sends a line thirty times.

export interface Step {
  readonly verb: string
  /** Which connection to the backend; 0: the newest. */
  readonly which: number
  readonly text: string
  readonly line: number
}

export interface Script {
  readonly file: string
  readonly title: string
  /** The part of postern.yaml. */
  readonly yaml: string
  /** The `@` lines. */
  readonly settings: readonly { readonly name: string; readonly words: readonly string[]; readonly text: string }[]
  readonly steps: readonly Step[]
}

const SHORT_FORMS = new Map<string, readonly string[]>([
  ['hello', ['s: 220 mx.example.org', 'c: EHLO client.example.net', 's: 250 mx.example.org']],
  [
    'envelope',
    [
      'c: MAIL FROM:<sender@example.net>',
      'b: MAIL FROM:<sender@example.net>',
      'B: 250 2.1.0 ok',
      's: 250 2.1.0',
      'c: RCPT TO:<user@example.org>',
      'b: RCPT TO:<user@example.org>',
      'B: 250 2.1.5 ok',
      's: 250 2.1.5',
    ],
  ],
  ['message', ['c: DATA', 's: 354', 'c: Subject: hello', 'c: ', 'c: text', 'c: .']],
  ['taken', ['b: DATA', 'B: 354 go ahead', 'b: ...', 'b: .', 'B: 250 2.0.0 taken', 's: 250 2.0.0']],
  [
    'login',
    [
      'c: AUTH PLAIN AGppbQB0dWxpcA==',
      'b: AUTH PLAIN AGppbQB0dWxpcA==',
      'B: 235 2.7.0 welcome',
      's: 235 2.7.0 Logged in',
    ],
  ],
  ['bye', ['c: QUIT', 's: 221 2.0.0', 'gone: s', 'ended: quit']],
])

const STEP = /^(c|s|b|w|B|t|dial|dials|connect|gone|outcome|reason|ended)(\d*)(!?):(?: (.*))?$/
const WORD = /^(Bclose|Brst|Bpause|Bdrop|Cpause|close|rst|connect|quiet|stop|cutoff)(\d*)()$/
const REPEATED = /^c\*(\d+): (.*)$/

/** Reads a dialogue; throws with file:line. */
export function parseScript(text: string, file: string): Script {
  const lines = text.split('\n')
  const border = lines.indexOf('---')
  if (border < 0) throw new Error(`${file}: no line '---' before the steps`)
  const settings = lines.slice(0, border).filter((line) => line.startsWith('@'))
  const title =
    lines
      .find((line) => line.startsWith('#'))
      ?.slice(1)
      .trim() ?? file
  const steps: Step[] = []
  for (const [i, raw] of lines.entries()) {
    if (i <= border || raw.startsWith('#') || raw.trim() === '') continue
    for (const line of SHORT_FORMS.get(raw.trim()) ?? [raw]) steps.push(...parseStep(line, { file, line: i + 1 }))
  }
  const yaml = lines.slice(0, border).map((line) => (line.startsWith('@') ? '' : line))
  return { file, title, yaml: yaml.join('\n'), settings: settings.map(parseSetting), steps }
}

function parseSetting(line: string): Script['settings'][number] {
  const [name = '', ...words] = line.slice(1).trim().split(/\s+/)
  return { name, words, text: words.join(' ') }
}

function parseStep(raw: string, { file, line }: { file: string; line: number }): Step[] {
  const repeated = REPEATED.exec(raw)
  if (repeated !== null) {
    const step = { verb: 'c', which: 0, text: unescaped(repeated[2] ?? ''), line }
    return Array.from({ length: Number(repeated[1]) }, () => step)
  }
  const match = STEP.exec(raw) ?? WORD.exec(raw)
  if (match?.[1] === undefined) throw new Error(`${file}:${line}: no step: ${raw}`)
  const text = match[4] ?? ''
  const verb = match[1] + (match[3] ?? '')
  return [{ verb, which: Number(match[2] ?? 0), text: isPattern(text) ? text : unescaped(text), line }]
}

export function isPattern(text: string): boolean {
  return text.length > 2 && text.startsWith('/') && text.endsWith('/')
}

const ESCAPES = new Map([
  ['\\r', '\r'],
  ['\\n', '\n'],
  ['\\0', '\0'],
  ['\\t', '\t'],
  ['\\\\', '\\'],
])

function unescaped(text: string): string {
  return text
    .replace(/\{\{(.+?)\*(\d+)\}\}/g, (_, piece: string, times: string) => piece.repeat(Number(times)))
    .replace(/\\(?:x([0-9a-f]{2})|.)/gi, (whole, hex?: string) =>
      hex === undefined ? (ESCAPES.get(whole) ?? whole) : String.fromCharCode(Number.parseInt(hex, 16)),
    )
}
