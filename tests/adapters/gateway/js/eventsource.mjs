// An unmodified `EventSource` on a gateway: puts a response together, over lost connections.
// Prints a line of JSON for each thing it sees: {opened}, {length}, at last {text, ids, state}.
import { EventSource } from "eventsource";

const source = new EventSource(process.argv[2]);
const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");
const parts = [];
const ids = [];

source.onopen = () => say({ opened: true });
source.onmessage = (message) => {
  const event = JSON.parse(message.data);
  if (message.lastEventId) ids.push(message.lastEventId);
  if (event.type === "snapshot") {
    parts.length = 0;
    for (const part of event.response.parts ?? []) parts.push([...(part.text ?? "")]);
  } else if (event.type === "delta") {
    const have = (parts[event.part] ??= []);
    if (have.length !== event.offset) {
      say({ wrong: `text at ${event.offset}, ${have.length} code points are there` });
      process.exit(1);
    }
    have.push(...event.text);
    say({ length: have.length });
  }
  if (event.type === "end" || (event.response && event.response.state !== undefined && event.response.state !== "streaming")) {
    say({ text: parts.map((part) => part.join("")).join(""), ids, state: event.state ?? event.response.state });
    source.close();
  }
};
