#!/usr/bin/env bash
# A CR and the LF after it are one line end, also where a chunk ends between them. Two clients for
# npm count them as two there, so an empty line comes into being that nobody sent: one event of two
# lines of data arrives as two. It depends on where the network cuts, so it passes every test in
# which a server sends whole events.
#
# extended-eventsource 2.1.0 and parse-sse 0.1.0 on Node 20, 2026-11-28. Output seen:
#   extended-eventsource ["one","two"]
#   parse-sse ["one","two"]
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund extended-eventsource@2.1.0 parse-sse@0.1.0
cat >probe.mjs <<'JS'
import { createServer } from "node:http";
import { EventSource } from "extended-eventsource";
import { parseServerSentEvents } from "parse-sse";

// One event, of two lines; the second chunk begins with the LF of the first line's CRLF. It is sent
// once the client has had time to read the first.
const server = createServer((request, response) => {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.write("data: one\r");
  setTimeout(() => response.end("\ndata: two\r\n\r\n"), 300);
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const url = `http://127.0.0.1:${server.address().port}/`;

const extended = await new Promise((done) => {
  const found = [];
  const source = new EventSource(url, { disableLogger: true });
  source.onmessage = (event) => found.push(event.data);
  source.onerror = () => {
    source.close();
    done(found);
  };
  setTimeout(() => {
    source.close();
    done(found);
  }, 5000);
});
const parsed = [];
for await (const event of parseServerSentEvents(await fetch(url))) parsed.push(event.data);
server.close();
console.log("extended-eventsource", JSON.stringify(extended));
console.log("parse-sse", JSON.stringify(parsed));
const wrong = JSON.stringify(["one", "two"]);
process.exit(JSON.stringify(extended) === wrong && JSON.stringify(parsed) === wrong ? 0 : 1);
JS
node probe.mjs
