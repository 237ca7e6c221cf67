// A program that uses each entry of the package, and prints what came of it. Arguments: the URL of the site.
import { readUIMessageStream } from "ai";
import { createElement } from "react";
import { renderToString } from "react-dom/server";
import process from "node:process";
import { connect, TokenwireError } from "tokenwire";
import { TokenwireChatTransport } from "tokenwire/ai-sdk";
import { TokenStream, TokenwireProvider } from "tokenwire/react";

const base = process.argv[2];
const result = { runtime: globalThis.Deno ? "deno" : `node ${process.versions.node.split(".")[0]}` };

/** Wait until a response of a channel is as wanted. */
function shows(channel, id, wanted) {
  return new Promise((resolve) => {
    const look = () => {
      const response = channel.get(id);
      if (response && wanted(response)) {
        off();
        resolve(response);
      }
    };
    const off = channel.on("response", look);
    look();
  });
}

// -- tokenwire

const connection = connect(`${base}/stream`);
const channel = connection.channel("c", { rewind: "all" });
await channel.send("message", "whole");
result.whole = (await shows(channel, "whole", ({ ended }) => ended)).text;
result.transport = connection.transport;

// The rest of this answer is written while nobody is connected.
await channel.send("message", "paused");
await shows(channel, "paused", ({ text }) => text !== "");
connection.pause();
await channel.send("go on");
while ((await channel.history({ limit: 1 })).items[0].state !== "complete");
// It goes on from its cursor: what it had is not sent again.
const again = new Set();
const off = channel.on("event", ({ type, response_id }) => again.add(`${type} ${response_id ?? ""}`));
connection.resume();
result.paused = (await shows(channel, "paused", ({ ended }) => ended)).text;
off();
result.again = [...again];

await channel.send("message", "stopped");
await shows(channel, "stopped", ({ text }) => text !== "");
result.outcome = await channel.cancel("stopped", "enough");
result.stopped = (await shows(channel, "stopped", ({ ended }) => ended)).state;

result.history = (await channel.history({ limit: 10 })).items.map(({ id, state, text }) => [id, state, text]);
connection.close();

const refused = connect(`${base}/stream`).channel("not allowed");
result.refused = await new Promise((resolve) => {
  refused.on("error", (error) => resolve([error instanceof TokenwireError, error.code]));
});

// -- tokenwire/ai-sdk

const transport = new TokenwireChatTransport({ api: `${base}/api/chat` });
const ask = (text) => ({
  chatId: "chat",
  trigger: "submit-message",
  messages: [{ id: "m1", role: "user", parts: [{ type: "text", text }] }],
});
const textOf = (message) => message.parts.filter(({ type }) => type === "text").map(({ text }) => text).join("");
let last;
for await (const message of readUIMessageStream({ stream: await transport.sendMessages(ask("hello")) })) last = message;
result.answer = textOf(last);
const endless = await transport.sendMessages(ask("endless"));
for await (const message of readUIMessageStream({ stream: endless })) {
  if (textOf(message) !== "" && !result.stop) result.stop = await transport.stop("chat");
}

// -- tokenwire/react

result.html = renderToString(
  createElement(TokenwireProvider, { url: `${base}/stream` }, createElement(TokenStream, { channel: "c" })),
);

console.log(JSON.stringify(result));
process.exit(0);
