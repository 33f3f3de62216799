// The syntax that the scripted backend insists on: line ends, paths, and only parameters that it announced.

/** Finds a bare LF, a bare CR or a NUL in a stream of octets; each kind is reported once. */
export class LineEndGuard {
  readonly #reported = new Set<string>()
  #afterCr = false

  look(chunk: Buffer): string[] {
    const found: string[] = []
    const report = (what: string): void => {
      if (!this.#reported.has(what)) found.push(what)
      this.#reported.add(what)
    }
    for (const octet of chunk) {
      if (octet === 0) report('a NUL')
      if (octet === 0x0a && !this.#afterCr) report('a bare LF')
      if (octet !== 0x0a && this.#afterCr) report('a bare CR')
      this.#afterCr = octet === 0x0d
    }
    return found
  }
}

export interface Path {
  readonly address: string
  readonly parameters: readonly string[]
}

/** `MAIL FROM:<…> PARAMETERS`, strictly as RFC 5321 4.1.2 writes it. */
export function parsePath(line: string, verb: 'MAIL FROM' | 'RCPT TO'): Path | undefined {
  const form = /^(MAIL FROM|RCPT TO):<((?:"(?:[^"\\]|\\.)*"|[^<>"\s])*)>((?: [^\s]+)*)$/i.exec(line)
  if (form === null || form[1]?.toUpperCase() !== verb) return undefined
  return { address: form[2] ?? '', parameters: (form[3] ?? '').split(' ').filter((text) => text !== '') }
}

const EXTENSION_OF = new Map([
  ['SIZE', 'SIZE'],
  ['BODY', '8BITMIME'],
  ['SMTPUTF8', 'SMTPUTF8'],
  ['RET', 'DSN'],
  ['ENVID', 'DSN'],
  ['NOTIFY', 'DSN'],
  ['ORCPT', 'DSN'],
  ['AUTH', 'AUTH'],
  ['REQUIRETLS', 'REQUIRETLS'],
])

/** The refusal of the first parameter that was not announced (RFC 5321 4.1.1.11), or undefined. */
export function refuseParameters(parameters: readonly string[], announced: readonly string[]): string | undefined {
  const keywords = new Map(announced.map((line) => [line.split(' ')[0]?.toUpperCase() ?? '', line]))
  for (const parameter of parameters) {
    const [name = '', value] = parameter.split('=')
    const extension = EXTENSION_OF.get(name.toUpperCase())
    const line = extension === undefined ? undefined : keywords.get(extension)
    if (line === undefined) return `555 5.5.4 parameter ${name} was not announced`
    const most = Number(line.split(' ')[1] ?? 0)
    if (extension === 'SIZE' && most > 0 && Number(value) > most) return '552 5.3.4 too big'
  }
  return undefined
}
