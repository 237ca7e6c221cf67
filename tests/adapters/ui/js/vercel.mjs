// Pages made with the AI SDK, without the pages: Chat is what useChat wraps.
// Takes commands, one JSON object a line, and answers each with one.
import { createInterface } from "node:readline";

const sdk = await import(process.env.AI_PACKAGE ?? "ai");
const { AbstractChat, DefaultChatTransport, readUIMessageStream } = sdk;

class State {
  constructor(messages) {
    this.messages = messages;
    this.status = "ready";
    this.error = undefined;
  }
  pushMessage = (message) => { this.messages = [...this.messages, structuredClone(message)]; };
  popMessage = () => { this.messages = this.messages.slice(0, -1); };
  replaceMessage = (index, message) => {
    this.messages = this.messages.with(index, structuredClone(message));
  };
  snapshot = (thing) => structuredClone(thing);
}

class Chat extends AbstractChat {
  constructor({ messages = [], ...rest }) {
    super({ ...rest, state: new State(messages) });
  }
}

const tabs = new Map();
let joined; // what a stream makes, in time

// As docs/ui-protocols.md has it: what tells a stop from a page that goes.
const stopping = (url, init) => {
  init?.signal?.addEventListener("abort", () => {
    if (init.method === "POST") {
      const id = encodeURIComponent(JSON.parse(init.body).id);
      fetch(`${url}/${id}/stop`, { method: "POST", keepalive: true });
    }
  });
  return fetch(url, init);
};

function open({ tab, api, id, messages, stops, approving }) {
  const seen = { finish: null, errors: [], toolCalls: [], data: [] };
  const chat = new Chat({
    id,
    messages,
    transport: new DefaultChatTransport({ api, fetch: stops ? stopping : undefined }),
    sendAutomaticallyWhen: approving ? sdk.lastAssistantMessageIsCompleteWithApprovalResponses : undefined,
    onFinish: (event) => { seen.finish = { ...event, messages: undefined }; },
    onError: (error) => { seen.errors.push(String(error.message)); },
    onToolCall: ({ toolCall }) => { seen.toolCalls.push(toolCall.toolCallId); },
    onData: (part) => { seen.data.push(part); },
  });
  tabs.set(tab, { chat, seen, work: Promise.resolve() });
  return {};
}

function report({ chat, seen }) {
  return {
    status: chat.status,
    error: chat.error && String(chat.error.message),
    messages: chat.messages,
    ...seen,
  };
}

async function text(tab, length) {
  for (;;) {
    const last = tab.chat.messages.at(-1);
    const found = last?.role === "assistant"
      ? last.parts.filter((part) => part.type === "text").map((part) => part.text).join("")
      : "";
    if (found.length >= length || ["ready", "error"].includes(tab.chat.status)) return found;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const commands = {
  open,
  // What a user does; answers at once.
  send: ({ tab, text, options }) => {
    const it = tabs.get(tab);
    it.work = it.chat.sendMessage({ text }, options);
    return {};
  },
  again: ({ tab }) => {
    const it = tabs.get(tab);
    it.work = it.chat.regenerate();
    return {};
  },
  resume: ({ tab }) => {
    const it = tabs.get(tab);
    it.work = it.chat.resumeStream();
    return {};
  },
  output: async ({ tab, tool, call, output }) => {
    const it = tabs.get(tab);
    await it.chat.addToolOutput({ tool, toolCallId: call, output });
    it.work = it.chat.sendMessage();
    return {};
  },
  approve: async ({ tab, id, approved, reason }) => {
    await tabs.get(tab).chat.addToolApprovalResponse({ id, approved, reason });
    return {};
  },
  // Waits until nothing is under way, whoever began it.
  idle: async ({ tab }) => {
    const it = tabs.get(tab);
    const unsent = () => it.chat.messages.at(-1)?.parts.some((part) => part.state === "approval-responded");
    await it.work;
    while (!["ready", "error"].includes(it.chat.status) || (unsent() && it.chat.status !== "error")) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return report(it);
  },
  report: ({ tab }) => report(tabs.get(tab)),
  stop: async ({ tab }) => { await tabs.get(tab).chat.stop(); return {}; },
  // Waits until so much text is there, or the answer is over.
  text: async ({ tab, length }) => ({ text: await text(tabs.get(tab), length) }),
  // Waits until the answer has begun, though nothing of it may be there.
  begun: async ({ tab }) => {
    const { chat } = tabs.get(tab);
    while (chat.messages.at(-1)?.role !== "assistant") {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return {};
  },
  // Waits until the answer is over.
  done: async ({ tab }) => {
    const it = tabs.get(tab);
    await it.work;
    return report(it);
  },
  // What a page that was closed leaves behind.
  drop: ({ tab }) => { tabs.get(tab).chat.stop(); tabs.delete(tab); return {}; },
  // Between tests: as if all pages had been closed.
  reset: () => {
    for (const { chat } of tabs.values()) chat.stop();
    tabs.clear();
    joined = undefined;
    return {};
  },
  // The low level: one stream; answers when it has begun, and `rest` once it is read to its end.
  join: async ({ api, id }) => {
    const stream = await new DefaultChatTransport({ api }).reconnectToStream({ chatId: id });
    joined = (async () => {
      let message;
      for await (message of readUIMessageStream({ stream }));
      return { message };
    })();
    return {};
  },
  rest: () => joined,
  reconnect: async ({ api, id }) => {
    const transport = new DefaultChatTransport({ api });
    const stream = await transport.reconnectToStream({ chatId: id });
    if (stream === null) return { message: null };
    let message;
    const errors = [];
    for await (message of readUIMessageStream({
      stream,
      onError: (error) => errors.push(String(error.message)),
    }));
    return { message, errors };
  },
  // The client's reading of streams that were recorded.
  read: async ({ streams }) => {
    const results = [];
    for (const body of streams) {
      const transport = new DefaultChatTransport({
        fetch: async () => new Response(body, { status: 200 }),
      });
      const stream = await transport.reconnectToStream({ chatId: "c" });
      let message;
      const errors = [];
      for await (message of readUIMessageStream({
        stream,
        onError: (error) => errors.push(String(error.message)),
      }));
      results.push({ message, errors });
    }
    return { results };
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
