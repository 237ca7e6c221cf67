#!/usr/bin/env bash
# The AI SDK's stream protocol has an `abort` chunk for "the stream was aborted", and `onFinish` of
# `useChat` has `isAbort`. They have nothing to do with each other: a stream that a server ends with
# `abort` gives `isAbort: false` and the status `ready`, as a finished answer does, and its text part
# stays `streaming`. Only an abort by the page's own `stop()` sets it, so a page that asks `isAbort`
# takes an answer that was stopped elsewhere for a complete one.
#
# ai 7.0.173 (5.0.216 and 6.0.326 alike), 2026-11-28. Output seen:
#   status ready, isAbort false, isError false, isDisconnect false, text "Half an ans", state streaming
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund ai@7.0.173 >/dev/null
cat >probe.mjs <<'JS'
import { createServer } from "node:http";
import { AbstractChat, DefaultChatTransport } from "ai";

const chunks = [
  { type: "start", messageId: "m" },
  { type: "text-start", id: "t" },
  { type: "text-delta", id: "t", delta: "Half an ans" },
  { type: "abort", reason: "stopped on another device" },
];
const server = createServer((request, response) => {
  response.writeHead(200, {
    "content-type": "text/event-stream",
    "x-vercel-ai-ui-message-stream": "v1",
  });
  for (const chunk of chunks) response.write(`data: ${JSON.stringify(chunk)}\n\n`);
  response.end("data: [DONE]\n\n");
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));

const state = {
  status: "ready",
  error: undefined,
  messages: [],
  pushMessage(message) { this.messages.push(message); },
  popMessage() { this.messages.pop(); },
  replaceMessage(index, message) { this.messages[index] = message; },
  snapshot: structuredClone,
};
class Chat extends AbstractChat {}
let finished;
const chat = new Chat({
  state,
  transport: new DefaultChatTransport({ api: `http://127.0.0.1:${server.address().port}/` }),
  onFinish: (event) => { finished = event; },
});
await chat.sendMessage({ text: "Does it rain?" });
server.close();
server.closeAllConnections();
const part = finished.message.parts.find(({ type }) => type === "text");
const seen =
  `status ${chat.status}, isAbort ${finished.isAbort}, isError ${finished.isError}, ` +
  `isDisconnect ${finished.isDisconnect}, text ${JSON.stringify(part.text)}, state ${part.state}`;
console.log(seen);
const expected =
  'status ready, isAbort false, isError false, isDisconnect false, text "Half an ans", state streaming';
process.exitCode = seen === expected ? 0 : 1;
JS
node probe.mjs
