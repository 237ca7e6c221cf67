// Pages made with the AI SDK, without the pages: Chat is what useChat wraps.
// Takes commands, one JSON object a line, and answers each with one.
import { createInterface } from "node:readline";

const sdk = await import(process.env.AI_PACKAGE ?? "ai");
const { AbstractChat, DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls, readUIMessageStream } = sdk;
const { TokenwireChatTransport } = await import(process.env.TOKENWIRE_AI_SDK);

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

// Which requests were made and how far each came, for a test that waits in vain.
const requests = [];
const plainFetch = globalThis.fetch;
globalThis.fetch = async (url, init) => {
  const request = { method: init?.method ?? "GET", url: String(url), came: "sent", bytes: 0 };
  requests.push(request);
  try {
    const response = await plainFetch(url, init);
    request.came = `status ${response.status}`;
    if (!response.body) return response;
    const body = response.body.pipeThrough(new TransformStream({
      transform(piece, controller) { request.bytes += piece.length; controller.enqueue(piece); },
      flush() { request.came = "ended"; },
    }));
    const { status, headers } = response;
    return new Response(body, { status, headers });
  } catch (error) {
    request.came = String(error.cause ?? error);
    throw error;
  }
};
const VAIN = 45_000; // ms: less than what the tests wait for an answer

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

// A network that cuts event streams off, each after so many bytes: cleanly, or with an error.
function cutting(cuts) {
  return async (url, init) => {
    const response = await fetch(url, init);
    const cut = response.status === 200 && response.headers.get("content-type")?.startsWith("text/event-stream") && cuts.shift();
    if (!cut) return response;
    let left = cut.bytes;
    const body = response.body.pipeThrough(new TransformStream({
      transform(piece, controller) {
        if (left > 0) controller.enqueue(piece.subarray(0, left));
        left -= piece.length;
        if (left > 0) return;
        if (cut.how === "end") controller.terminate();
        else controller.error(new TypeError("network error"));
      },
    }));
    return new Response(body, { status: 200, headers: response.headers });
  };
}

function transportOf({ api, stops, ours, lastOnly, cuts }) {
  const options = { api, fetch: cuts ? cutting(cuts) : stops ? stopping : undefined };
  if (ours) return new TokenwireChatTransport({ ...options, minDelay: 10, lastMessageOnly: lastOnly });
  if (lastOnly) {
    // As the SDK's documentation sends only the last message.
    options.prepareSendMessagesRequest = ({ id, messages, trigger, messageId }) => ({
      body: { id, message: messages.at(-1), trigger, messageId },
    });
  }
  return new DefaultChatTransport(options);
}

function open({ tab, id, messages, automatic, approving, ...options }) {
  const seen = { finish: null, errors: [], toolCalls: [], data: [], automatic: 0 };
  const transport = transportOf(options);
  const chat = new Chat({
    id,
    messages,
    transport,
    sendAutomaticallyWhen: (chat) => {
      if (approving) return sdk.lastAssistantMessageIsCompleteWithApprovalResponses(chat);
      const sends = automatic && lastAssistantMessageIsCompleteWithToolCalls(chat);
      if (sends) seen.automatic++;
      return sends && seen.automatic < 5;
    },
    onFinish: (event) => { seen.finish = { ...event, messages: undefined }; },
    onError: (error) => { seen.errors.push(String(error.message)); },
    onToolCall: ({ toolCall }) => { seen.toolCalls.push(toolCall.toolCallId); },
    onData: (part) => { seen.data.push(part); },
  });
  tabs.set(tab, { chat, seen, transport, work: Promise.resolve() });
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
  edit: ({ tab, text, message }) => {
    const it = tabs.get(tab);
    it.work = it.chat.sendMessage({ text, messageId: message });
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
    const deadline = Date.now() + VAIN;
    await Promise.race([it.work, new Promise((resolve) => setTimeout(resolve, VAIN).unref())]);
    while (!["ready", "error"].includes(it.chat.status) || (unsent() && it.chat.status !== "error")) {
      if (Date.now() > deadline) throw new Error(`still at work: ${JSON.stringify({ ...report(it), requests })}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return report(it);
  },
  report: ({ tab }) => report(tabs.get(tab)),
  stop: async ({ tab }) => { await tabs.get(tab).chat.stop(); return {}; },
  // The stop button of a page with our transport.
  halt: async ({ tab }) => {
    const { chat, transport } = tabs.get(tab);
    return transport.stop(chat.id);
  },
  // A stop, and a message before it was answered.
  instead: async ({ tab, text }) => {
    const it = tabs.get(tab);
    const stopping = it.transport.stop(it.chat.id);
    it.work = it.chat.sendMessage({ text });
    return stopping;
  },
  // A tool of the page that is done; the page sends by itself, or does not.
  settle: async ({ tab, tool, call, output }) => {
    const it = tabs.get(tab);
    await it.chat.addToolOutput({ tool, toolCallId: call, output });
    return { automatic: it.seen.automatic };
  },
  // A tool of the page that is done in several tabs at the same time.
  race: async ({ tabs: names, tool, call, output }) => {
    await Promise.all(names.map((name) => tabs.get(name).chat.addToolOutput({ tool, toolCallId: call, output })));
    return {};
  },
  // Waits until so much text is there, or the answer is over.
  text: async ({ tab, length }) => ({ text: await text(tabs.get(tab), length) }),
  // Waits until the page has nothing to do.
  rested: async ({ tab }) => {
    const { chat } = tabs.get(tab);
    do await new Promise((resolve) => setTimeout(resolve, 20));
    while (!["ready", "error"].includes(chat.status));
    return {};
  },
  // Waits until a part of the answer is in a state.
  part: async ({ tab, state }) => {
    const { chat } = tabs.get(tab);
    while (!chat.messages.at(-1)?.parts.some((part) => part.state === state)) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return {};
  },
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
