// npm's resumable-stream at the same work as the other peers; redis_peers.py starts this with Node.
// It reads one command a line (JSON) from its standard input, and answers each in a line.
//
//     node redis_peers_npm.mjs URL TOKENS WORDS   (WORDS: what tokens are made of, JSON)

import { createInterface } from "node:readline";
import { createClient } from "redis";
import { createResumableStreamContext } from "resumable-stream";

const [url, count, words] = process.argv.slice(2);
const tokens = Number(count);
const vocabulary = JSON.parse(words);
const clients = [];
const waitUntil = () => {};

// Two connections for each context, as the package makes them itself.
async function context() {
  const made = { waitUntil };
  for (const name of ["publisher", "subscriber"]) {
    made[name] = createClient({ url });
    await made[name].connect();
    clients.push(made[name]);
  }
  return createResumableStreamContext(made);
}

let open;
const gate = new Promise((resolve) => (open = resolve));

function stream() {
  let number = 0;
  return new ReadableStream({
    async pull(controller) {
      if (number === 0) await gate;
      if (number === tokens) return controller.close();
      controller.enqueue(vocabulary[number % vocabulary.length]);
      // A model's tokens come in bursts, at best.
      if (number++ % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
    },
  });
}

async function read(found) {
  if (!found) return null; // a finished stream cannot be replayed
  let text = "";
  for await (const piece of found) text += piece;
  return text;
}

let produced;
const reading = [];
const commands = {
  async prepare() {
    produced = await (await context()).createNewResumableStream("r", stream);
  },
  async watch() {
    reading.push(read(await (await context()).resumeExistingStream("r")));
    return reading.length - 1;
  },
  async produce() {
    open();
    await read(produced);
  },
  text: (number) => reading[number],
  late: async () => read(await (await context()).resumeExistingStream("r")),
  cpu: () => Object.values(process.cpuUsage()).reduce((sum, micros) => sum + micros) / 1e6,
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, argument] = JSON.parse(line);
  const result = await commands[name](argument);
  process.stdout.write(JSON.stringify(result ?? null) + "\n");
}
await Promise.all(clients.map((client) => client.close()));
