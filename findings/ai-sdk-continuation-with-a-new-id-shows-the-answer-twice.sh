#!/usr/bin/env bash
# A page of the AI SDK answers a tool call and `useChat` sends the chat again; the server's next stream
# continues the same answer. If its `start` chunk has an id of its own, as one that makes an id for each
# stream sends, the page neither renames the message nor begins an empty one: it adds a second message
# that holds a copy of all parts of the first, and the user reads text and tool call twice.
# No id, or the first one, continues in place.
#
# ai 7.0.173 (5.0.216 and 6.0.326 alike), 2026-11-28. Output seen:
#   assistant m1: text "I will look. ", tool-place
#   assistant m2: text "I will look. ", tool-place, text "It rains in Paris."
#   with the first id:
#   assistant m1: text "I will look. ", tool-place, text "It rains in Paris."
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund ai@7.0.173 >/dev/null
cat >probe.mjs <<'JS'
import { once } from "node:events";
import { createServer } from "node:http";
import { AbstractChat, DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls } from "ai";

const text = (delta) => [
  { type: "text-start", id: "t" },
  { type: "text-delta", id: "t", delta },
  { type: "text-end", id: "t" },
];
const call = { type: "tool-input-available", toolCallId: "c", toolName: "place", input: {} };
const step = (messageId, ...chunks) => [
  { type: "start", messageId },
  { type: "start-step" },
  ...chunks,
  { type: "finish-step" },
  { type: "finish" },
];
class Chat extends AbstractChat {}

async function messagesOnPage(secondId) {
  const streams = [step("m1", ...text("I will look. "), call), step(secondId, ...text("It rains in Paris."))];
  const server = createServer((request, response) => {
    response.writeHead(200, {
      "content-type": "text/event-stream",
      "x-vercel-ai-ui-message-stream": "v1",
    });
    for (const chunk of streams.shift()) response.write(`data: ${JSON.stringify(chunk)}\n\n`);
    response.end("data: [DONE]\n\n");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const state = {
    status: "ready",
    error: undefined,
    messages: [],
    pushMessage(message) { this.messages.push(message); },
    popMessage() { this.messages.pop(); },
    replaceMessage(index, message) { this.messages[index] = message; },
    snapshot: structuredClone,
  };
  await new Promise((finished) => {
    const chat = new Chat({
      state,
      transport: new DefaultChatTransport({ api: `http://127.0.0.1:${server.address().port}/` }),
      onToolCall({ toolCall: { toolCallId } }) {
        chat.addToolOutput({ tool: "place", toolCallId, output: "Paris" });
      },
      sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
      onFinish() { if (streams.length === 0) finished(); },
    });
    chat.sendMessage({ text: "Does it rain here?" });
  });
  server.close();
  server.closeAllConnections();
  const shown = ({ type, text }) => (type === "text" ? `text ${JSON.stringify(text)}` : type);
  return state.messages
    .filter(({ role }) => role === "assistant")
    .map(({ id, parts }) =>
      `assistant ${id}: ${parts.filter(({ type }) => type !== "step-start").map(shown).join(", ")}`);
}

const seen = [...(await messagesOnPage("m2")), "with the first id:", ...(await messagesOnPage("m1"))];
console.log(seen.join("\n"));
const first = 'text "I will look. ", tool-place';
const whole = `${first}, text "It rains in Paris."`;
const expected = [
  `assistant m1: ${first}`,
  `assistant m2: ${whole}`,
  "with the first id:",
  `assistant m1: ${whole}`,
];
process.exitCode = seen.join() === expected.join() ? 0 : 1;
JS
node probe.mjs
