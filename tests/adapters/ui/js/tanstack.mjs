// Chats of TanStack AI, without a page. Takes commands, one JSON object a line, and answers each with one.
import { createInterface } from "node:readline";
import { ChatClient, fetchServerSentEvents } from "@tanstack/ai-client";

const tabs = new Map();

const commands = {
  open: ({ tab, url, thread }) => {
    const seen = { errors: [], customs: [] };
    const client = new ChatClient({
      id: thread,
      threadId: thread,
      connection: fetchServerSentEvents(url),
      onError: (error) => { seen.errors.push(String(error.message)); },
      onCustomEvent: (name, value) => { seen.customs.push([name, value]); },
    });
    tabs.set(tab, { client, seen, work: Promise.resolve() });
    return {};
  },
  send: ({ tab, text }) => {
    const it = tabs.get(tab);
    it.work = it.client.sendMessage(text);
    return {};
  },
  stop: ({ tab }) => { tabs.get(tab).client.stop(); return {}; },
  text: async ({ tab, length }) => {
    const { client } = tabs.get(tab);
    const text = () => {
      const last = client.getMessages().at(-1);
      const parts = last?.role === "assistant" ? last.parts : [];
      return parts.map((part) => part.type === "text" ? part.content : "").join("");
    };
    while (text().length < length) await new Promise((resolve) => setTimeout(resolve, 5));
    return { text: text() };
  },
  done: async ({ tab }) => {
    const { client, seen, work } = tabs.get(tab);
    await work;
    return { messages: client.getMessages(), ...seen };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...rest } = JSON.parse(line);
  try {
    const answer = await commands[command](rest);
    process.stdout.write(JSON.stringify({ ok: answer }) + "\n");
  } catch (error) {
    process.stdout.write(JSON.stringify({ failed: String(error.stack) }) + "\n");
  }
}
