#!/usr/bin/env node
// Starts Postern: from dist/ in the published package, from the TypeScript beside this file in a working copy. Plain
// JavaScript, so that an older Node (from 14.8 on) gets as far as the one line that says what is missing.
import { existsSync } from 'node:fs'

const major = Number(process.versions.node.split('.')[0])
if (major < 24) {
  process.stderr.write(
    `postern needs Node.js 24 or newer, this is ${process.version}: install it (for example: npm install -g node@24)\n`,
  )
  process.exit(69)
}
const source = new URL('./main.ts', import.meta.url)
await import(existsSync(source) ? source.href : new URL('../dist/main.js', import.meta.url).href)
