#!/usr/bin/env bash
# The specification takes away one space after the colon of a field; any further space belongs to
# the data. fetch-event-stream takes all of them away. Models' tokens begin with a space more often
# than not, so a server that sends each as the data of a message shows "Howareyou" on the page.
#
# fetch-event-stream 0.1.6 on Node 20, 2026-11-28. Output seen:
#   ["How","are","you"]
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund fetch-event-stream@0.1.6
cat >probe.mjs <<'JS'
import { createServer } from "node:http";
import { events } from "fetch-event-stream";

const server = createServer((request, response) => {
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (const token of ["How", " are", " you"]) response.write(`data: ${token}\n\n`);
  response.end();
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const tokens = [];
for await (const event of events(await fetch(`http://127.0.0.1:${server.address().port}/`))) tokens.push(event.data);
server.close();
console.log(JSON.stringify(tokens));
process.exitCode = tokens.join("") === "Howareyou" ? 0 : 1;
JS
node probe.mjs
