// The package as it is published: packed from a clean copy of the project, installed into an empty folder, and run from there.
// Promise: nothing is written into the project. Not taken: packing in place. What lies in dist from an older build would be packed too.
import assert from 'node:assert/strict'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { after, before, suite, type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { DOMAIN, readMaildir, startGateway } from '../support/gateway.ts'
import { findCommand } from '../support/peers.ts'
import { type CommandResult, runCommand } from '../support/run-command.ts'
import { Talk } from '../support/talk.ts'

const PROJECT = fileURLToPath(new URL('../..', import.meta.url))
const NOT_COPIED = new Set(['node_modules', '.git', 'dist', 'data'])
const NO_NETWORK =
  /\b(?:ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ENOTCACHED|ERR_SOCKET_TIMEOUT)\b/
const INSTALL_LIMIT = 120_000

let folder = ''
let home = ''
let packed: readonly string[] = []
let noNetwork: string | undefined

function npm(cwd: string, ...argv: readonly string[]): Promise<CommandResult> {
  const env: NodeJS.ProcessEnv = { ...process.env }
  // What the npm that runs this test was told is not for this one.
  for (const name of Object.keys(env))
    if (/^npm_(?:package|lifecycle|command|execpath|node)/.test(name)) delete env[name]
  return runCommand(findCommand('npm') ?? 'npm', argv, { cwd, env, limit: INSTALL_LIMIT })
}

async function pack(): Promise<string> {
  const project = join(folder, 'project')
  await mkdir(project)
  for (const name of await readdir(PROJECT)) {
    if (!NOT_COPIED.has(name)) await cp(join(PROJECT, name), join(project, name), { recursive: true })
  }
  await symlink(join(PROJECT, 'node_modules'), join(project, 'node_modules'))
  const { status, stdout, stderr } = await npm(project, 'pack', '--json', '--pack-destination', folder)
  assert.equal(status, 0, stderr + stdout)
  const [{ filename, files }] = JSON.parse(stdout.slice(stdout.indexOf('[\n')))
  packed = files.map(({ path }: { path: string }) => path)
  return join(folder, filename)
}

/** For tests that run what was installed. */
function needsInstalled(t: TestContext): boolean {
  if (noNetwork !== undefined) t.skip(`npm install cannot reach a registry: ${noNetwork}`)
  return noNetwork === undefined
}

function postern(node: string, ...argv: readonly string[]): Promise<CommandResult> {
  return runCommand(node, [join(home, 'node_modules/.bin/postern'), ...argv], { cwd: home })
}

/** The first node of the machine that is too old for us. */
async function oldNode(): Promise<string | undefined> {
  for (const place of new Set((process.env.PATH ?? '').split(delimiter))) {
    const { status, stdout } = await runCommand(join(place, 'node'), ['--version'])
    if (status === 0 && Number(/^v(\d+)/.exec(stdout)?.[1]) < 24) return join(place, 'node')
  }
  return undefined
}

suite('the package', { skip: findCommand('npm') === undefined ? 'npm is not installed' : false }, () => {
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'postern-pack-'))
    const tarball = await pack()
    home = join(folder, 'site')
    await mkdir(home)
    await writeFile(join(home, 'package.json'), '{"private": true}\n')
    const { status, stdout, stderr } = await npm(home, 'install', '--prefer-offline', '--fetch-retries=1', tarball)
    if (status === 0) return
    noNetwork = NO_NETWORK.exec(stderr + stdout)?.[0]
    assert.notEqual(noNetwork, undefined, `npm install failed: ${stderr}${stdout}`)
  })
  after(() => rm(folder, { recursive: true, force: true }))

  test('holds the program, its rules and the example, and nothing else', () => {
    for (const name of [
      'dist/main.js',
      'dist/filter/filter.d.ts',
      'rules/scores.yaml',
      'src/launcher.js',
      'LICENSE',
      'README.md',
    ])
      assert.ok(packed.includes(name), `${name} is missing`)
    const known =
      /^(?:dist\/.+\.(?:js|d\.ts)|rules\/.+|src\/launcher\.js|deploy\/postern\.example\.yaml|deploy\/example-filter\.ts|package\.json|[A-Z]+\.md|LICENSE)$/
    assert.deepEqual(
      packed.filter((name) => !known.test(name)),
      [],
    )
    assert.deepEqual(
      packed.filter((name) => /(?:^|\/)(?:test|shared|data)\/|\.test\./.test(name)),
      [],
    )
  })

  test('holds one module for each of ours', async () => {
    const sources = (await readdir(join(folder, 'project/src'), { recursive: true })).filter((name) =>
      name.endsWith('.ts'),
    )
    const built = packed
      .filter((name) => /^dist\/.*\.js$/.test(name))
      .map((name) => name.replace(/^dist\/(.*)\.js$/, '$1.ts'))
    assert.deepEqual(built.toSorted(), sources.toSorted())
  })

  test('says its version', async (t) => {
    if (!needsInstalled(t)) return
    const { version } = JSON.parse(await readFile(join(PROJECT, 'package.json'), 'utf8'))
    assert.deepEqual(await postern(process.execPath, '--version'), { status: 0, stdout: `${version}\n`, stderr: '' })
  })

  test('demo --once runs and ends with 0', async (t) => {
    if (!needsInstalled(t)) return
    const { status, stdout, stderr } = await postern(process.execPath, 'demo', '--once')
    assert.equal(status, 0, stdout + stderr)
  })

  test('run takes a message and a plugin that imports postern/filter', async (t) => {
    if (!needsInstalled(t)) return
    const plugin = join(home, 'hello-filter.ts')
    await writeFile(
      plugin,
      `import { defineFilter } from 'postern/filter'
export default defineFilter({
  name: 'hello',
  options: { parse: () => ({}) },
  create: () => ({ message: () => ({ headers: [{ name: 'X-Hello', value: 'world' }] }) }),
})\n`,
    )
    const place = join(home, 'running')
    const entry = join(home, 'node_modules/postern/src/launcher.js')
    const config = { plugins: [plugin], filters: { hello: { enabled: true } } }
    const gateway = await startGateway({ folder: place, entry, config })
    try {
      const talk = await Talk.greeted(gateway.port)
      await talk.ask('MAIL FROM:<sender@example.net>\r\n', '250')
      await talk.ask(`RCPT TO:<user@${DOMAIN}>\r\n`, '250')
      await talk.ask('DATA\r\n', '354')
      await talk.ask('Subject: packed\r\n\r\nx\r\n.\r\n', '250')
      talk.destroy()
      const [message] = await readMaildir(place)
      assert.match(message?.toString() ?? '', /^X-Hello: world\r\nSubject: packed\r\n\r\nx\r\n$/m)
    } finally {
      await gateway.stop()
    }
  })

  test('on an older Node it says what it needs, in one line, and ends with 69', async (t) => {
    if (!needsInstalled(t)) return
    const old = await oldNode()
    if (old === undefined) return t.skip('no Node older than 24 on the PATH')
    const { status, stdout, stderr } = await postern(old, '--version')
    assert.equal(status, 69)
    assert.equal(stdout, '')
    assert.match(stderr, /^postern needs Node\.js 24 or newer, this is v\d+\.\d+\.\d+: .*\n$/)
  })
})
