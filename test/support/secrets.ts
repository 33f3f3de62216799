// Whether something that was written down holds a secret, in clear or in base64.
// Base64 is looked for at all three places that the secret can have in its groups of three octets: within PLAIN it follows a name.
import { inspect } from 'node:util'

/** Every form of the secret that must not be seen. */
export function formsOf(secret: string): string[] {
  const shifted = [0, 1, 2].map((before) => {
    const text = Buffer.from('\0'.repeat(before) + secret).toString('base64')
    // Characters that also hold bits of what stands before or behind are left out.
    const whole = Math.floor(((before + Buffer.byteLength(secret)) * 8) / 6)
    return text.slice(Math.ceil((before * 8) / 6), whole)
  })
  return [secret, ...shifted]
}

/** Throws where one of the things holds the secret. */
export function expectNoSecret(things: readonly unknown[], secret: string): void {
  const forms = formsOf(secret)
  for (const thing of things) {
    const text = inspect(thing, { depth: 20, maxArrayLength: null, maxStringLength: null, breakLength: Infinity })
    const form = forms.find((f) => text.includes(f))
    if (form !== undefined) throw new Error(`the secret "${secret}" stands as "${form}" in ${text}`)
  }
}
