// The runner of dialogues notices what goes another way: a dialogue that could not fail would prove nothing.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runText } from '../support/dialog.ts'

function fails(name: string, steps: string, expected: RegExp): void {
  test(`fails: ${name}`, () => assert.rejects(runText(`---\n${steps}`, 'd'), { message: expected }))
}

fails('another reply', 'hello\nc: NOOP\ns: 354\n', /^d, line 4 \(s: 354\): expected "354", got "250 2.0.0 Ok"/)
fails('a reply that nobody asked about', 'hello\nc: NOOP\n', /^d, at its end: unread by the client: "250/)
fails('another line to the backend', 'hello\nc: MAIL FROM:<a@x>\nb: MAIL FROM:<b@x>\n', /got "MAIL FROM:<a@x>"/)
fails('a line to the backend that nobody asked about', 'hello\nc: MAIL FROM:<a@x>\n', /unread by backend connection 1/)
fails('two writes instead of one', 'hello\nc: MAIL FROM:<a@x>\nw: MAIL FROM:<a@x> | RCPT TO:<b@x>\n', /line 4 \(w: /)
fails('not quiet', 'hello\nc: NOOP\nquiet\n', /unread by the client/)
fails('another outcome', 'hello\nenvelope\nc: RSET\ns: 250\noutcome: delivered\n', /got "reset"/)
fails('nothing ended', 'hello\nended: quit\n', /no session ended/)
fails('another number of connections', 'hello\ndials: 2\n', /expected "2", got "1"/)
fails('an unknown step', 'hello\nx: what\n', /^d:3: no step: x: what/)

for (const form of ['tulip', 'dHVsaXA', 'R1bGlw', '0dWxpc']) {
  const events = `@secret tulip\n---\nhello\nc: MAIL FROM:<a-${form}@x>\nb: MAIL FROM:<a-${form}@x>\nB: 250 ok\ns: 250\n`
  test(`fails: a secret in an event, as ${form}`, () =>
    assert.rejects(runText(events, 'd'), { message: /^d, at its end: the secret "tulip" stands as "/ }))
}
