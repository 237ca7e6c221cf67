// Clients of AG-UI, with the package's own verifier on.
// Takes commands, one JSON object a line, and answers each with one.
import { createInterface } from "node:readline";

const { HttpAgent } = await import(process.env.AG_UI_CLIENT ?? "@ag-ui/client");

// What the client complains of, though it goes on: there must be nothing.
let warnings = [];
console.warn = (...words) => { warnings.push(words.join(" ")); };
console.error = (...words) => { warnings.push(words.join(" ")); };

const tabs = new Map();

function open({ tab, url, thread, messages, state, fetch }) {
  const agent = new HttpAgent({ url, threadId: thread, initialMessages: messages, initialState: state, fetch });
  const events = [];
  agent.subscribe({ onEvent: ({ event }) => { events.push(event); } });
  tabs.set(tab, { agent, events, work: Promise.resolve() });
  return {};
}

function run(it, fields) {
  it.error = undefined;
  it.work = it.agent.runAgent(fields).then(
    (result) => { it.result = result; },
    (error) => { it.error = String(error.message); },
  );
}

function report(it) {
  const complaints = warnings;
  warnings = [];
  return {
    messages: it.agent.messages,
    state: it.agent.state,
    events: it.events.map((event) => event.type),
    customs: it.events.filter(({ type }) => type === "CUSTOM").map(({ name, value }) => [name, value]),
    last: it.events.at(-1),
    error: it.error,
    pending: it.agent.pendingToolCallIds,
    warnings: complaints,
  };
}

function textOf(it) {
  return it.agent.messages
    .filter((message) => message.role === "assistant")
    .map((message) => message.content ?? "")
    .join("");
}

const commands = {
  open,
  say: ({ tab, id, text }) => {
    tabs.get(tab).agent.addMessage({ id, role: "user", content: text });
    return {};
  },
  add: ({ tab, message }) => { tabs.get(tab).agent.addMessage(message); return {}; },
  run: ({ tab, ...fields }) => { run(tabs.get(tab), fields); return {}; },
  race: ({ tabs: names }) => { for (const name of names) run(tabs.get(name), {}); return {}; },
  aim: ({ tab, url }) => { tabs.get(tab).agent.url = url; return {}; },
  abort: ({ tab }) => { tabs.get(tab).agent.abortRun(); return {}; },
  text: async ({ tab, length }) => {
    const it = tabs.get(tab);
    let over = false;
    it.work.finally(() => { over = true; });
    while (!over && textOf(it).length < length) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return { text: textOf(it) };
  },
  report: ({ tab }) => report(tabs.get(tab)),
  done: async ({ tab }) => {
    const it = tabs.get(tab);
    await it.work;
    return report(it);
  },
  // Between tests: as if all pages had been closed.
  reset: () => {
    for (const { agent } of tabs.values()) agent.abortRun();
    tabs.clear();
    warnings = [];
    return {};
  },
  // The client's reading of streams that were recorded.
  read: async ({ streams, messages }) => {
    const results = [];
    for (const body of streams) {
      const headers = { "content-type": "text/event-stream" };
      open({
        tab: "read",
        url: "http://unused.invalid/",
        thread: "c",
        messages,
        fetch: async () => new Response(body, { status: 200, headers }),
      });
      const it = tabs.get("read");
      run(it, {});
      await it.work;
      results.push(report(it));
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
