#!/usr/bin/env bash
# A comment keeps a quiet event stream alive; clients are to pass it by, and servers send it with an
# empty line after it. fetch-event-source calls onmessage with empty data then, so that the usual
# JSON.parse(message.data) throws at the first pause of a model, and its own error handling takes
# that for a broken connection. A comment without an empty line of its own is passed by.
#
# @microsoft/fetch-event-source 2.0.1 on Node 20, 2026-11-28. Output seen:
#   with an empty line ["","one"]
#   without ["one"]
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund @microsoft/fetch-event-source@2.0.1
cat >probe.mjs <<'JS'
import { createServer } from "node:http";
import { createRequire } from "node:module";

// The library is made for browsers: it asks the page whether it is hidden.
globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
const { fetchEventSource } = createRequire(import.meta.url)("@microsoft/fetch-event-source");

const server = createServer((request, response) => {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.end(`: keep-alive\n${request.url === "/block" ? "\n" : ""}data: one\n\n`);
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));

async function messages(path) {
  const found = [];
  await fetchEventSource(`http://127.0.0.1:${server.address().port}${path}`, {
    openWhenHidden: true,
    onmessage: (message) => found.push(message.data),
    onerror: (error) => {
      throw error;
    },
  });
  return JSON.stringify(found);
}

const [block, line] = [await messages("/block"), await messages("/line")];
server.close();
console.log("with an empty line", block);
console.log("without", line);
process.exit(block === '["","one"]' && line === '["one"]' ? 0 : 1);
JS
node probe.mjs
