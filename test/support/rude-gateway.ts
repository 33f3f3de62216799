// A gateway that breaks the rules on purpose, to show that the conformance runner notices. Started by the runner itself:
//   node test/conformance/run.ts --gateway test/support/rude-gateway.ts
// It never talks to a backend. NOOP is answered by a reply of the wrong class, VRFY by one that ends in a bare LF, RSET by two replies,
// and every message is promised to be delivered.
import { readFileSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { parse } from 'yaml'

const REPLIES = new Map([
  ['EHLO', '250-mx.example.com\r\n250 PIPELINING\r\n'],
  ['MAIL', '250 2.1.0 ok\r\n'],
  ['RCPT', '250 2.1.5 ok\r\n'],
  ['DATA', '354 go ahead\r\n'],
  ['NOOP', '250 5.0.0 ok\r\n'],
  ['VRFY', '252 2.5.0 perhaps\n'],
  ['RSET', '250 2.0.0 ok\r\n250 2.0.0 ok\r\n'],
  ['HELP', '214-one\r\n250 two\r\n'],
])

function serve(socket: Socket): void {
  let inMessage = false
  let text = ''
  socket.on('error', () => {})
  socket.write('220 mx.example.com ESMTP\r\n')
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1')
    for (let end = text.indexOf('\r\n'); end !== -1; end = text.indexOf('\r\n')) {
      const line = text.slice(0, end)
      text = text.slice(end + 2)
      if (inMessage && line !== '.') continue
      socket.write(inMessage ? '250 2.0.0 delivered\r\n' : (REPLIES.get(line.slice(0, 4)) ?? '500 5.5.2 what?\r\n'))
      inMessage = !inMessage && line === 'DATA'
    }
  })
}

const file = process.argv[process.argv.indexOf('-c') + 1] ?? ''
const [, port] = parse(readFileSync(file, 'utf8')).listeners[0].address.split(':')
createServer(serve).listen(Number(port), '127.0.0.1', () => process.stderr.write('{"msg":"listening"}\n'))
