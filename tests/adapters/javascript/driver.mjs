// Does with tokenwire.js what it is told, a JSON command a line, and tells what happens, likewise.
import { createInterface } from "node:readline";

const { connect, TokenwireError } = await import(process.argv[2]);

let connection;
let tokens = [];
const channels = new Map();
const tell = (message) => console.log(JSON.stringify(message));

function watch(key, channel) {
  channels.set(key, channel);
  for (const type of ["ready", "reset", "close", "input", "data"]) channel.on(type, (value) => tell({ on: type, key, value }));
  channel.on("response", (response) => tell({ on: "response", key, id: response.id, state: response.state, text: response.text }));
  channel.on("error", (error) => tell({ on: "error", key, code: error.code }));
}

const commands = {
  connect({ base, options = {}, tokens: given }) {
    if (given) {
      tokens = given;
      options.token = async () => {
        tell({ on: "token" });
        return tokens.length > 1 ? tokens.shift() : tokens[0];
      };
    }
    connection = connect(base, options);
    connection.on("status", (status) => tell({ on: "status", status, transport: connection.transport }));
  },
  channel: ({ key, name, options }) => watch(key, connection.channel(name, options)),
  channels({ names }) {
    for (const name of names) watch(name, connection.channel(name));
  },
  cancel: ({ key, id, reason }) => channels.get(key).cancel(id, reason),
  send: ({ key, name, data, options }) => channels.get(key).send(name, data, options),
  history: ({ key, options }) => channels.get(key).history(options),
  cursor: ({ key }) => channels.get(key).cursor,
  close: ({ key }) => (key ? channels.get(key) : connection).close(),
  pause: () => connection.pause(),
  resume: () => connection.resume(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { call, command, ...fields } = JSON.parse(line);
  Promise.resolve()
    .then(() => commands[command](fields))
    .then(
      (value) => tell({ done: call, value: value ?? null }),
      (error) => tell({ failed: call, code: error instanceof TokenwireError ? error.code : String(error) }),
    );
}
process.exit(0);
