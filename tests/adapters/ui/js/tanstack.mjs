// Chats of TanStack AI, without a page. Takes commands, one JSON object a line, and answers each with one.
import { createInterface } from "node:readline";
import { ChatClient, clientTools, fetchServerSentEvents } from "@tanstack/ai-client";
import { toolDefinition } from "@tanstack/ai";

const weather = toolDefinition({ name: "get_weather", description: "Tell the weather" })
  .client(async () => ({ sky: "clear", celsius: 21 }));

const tabs = new Map();

const commands = {
  open: ({ tab, url, thread, tools }) => {
    const seen = { asked: [], errors: [], customs: [] };
    const client = new ChatClient({
      id: thread,
      threadId: thread,
      connection: fetchServerSentEvents(() => tabs.get(tab).url),
      tools: tools ? clientTools(weather) : undefined,
      onError: (error) => { seen.errors.push(String(error.message)); },
      onResumeStateChange: (_, interrupts) => { seen.asked = interrupts.map(({ id, interruptId }) => id ?? interruptId); },
      onCustomEvent: (name, value) => { seen.customs.push([name, value]); },
    });
    tabs.set(tab, { client, seen, url, work: Promise.resolve() });
    return {};
  },
  send: ({ tab, text }) => {
    const it = tabs.get(tab);
    it.work = it.client.sendMessage(text);
    return {};
  },
  aim: ({ tab, url }) => { tabs.get(tab).url = url; return {}; },
  reload: ({ tab }) => {
    const it = tabs.get(tab);
    it.work = it.client.reload();
    return {};
  },
  approve: ({ tab }) => {
    const it = tabs.get(tab);
    const [interruptId] = it.seen.asked;
    const answer = { interruptId, status: "resolved", payload: { approved: true } };
    it.work = it.client.resumeInterruptsUnsafe([answer]);
    return {};
  },
  keep: ({ tab, number }) => {
    const { client } = tabs.get(tab);
    client.setMessagesManually(client.getMessages().slice(0, number));
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
