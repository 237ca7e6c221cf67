'use strict';
// A page with Ably's own AI Transport, unmodified: its client session and the codec for the AI
// SDK's messages. Steps come on stdin, one a line; answers go to stdout as JSON, one a line.

const readline = require('node:readline');
const { eventually, realtime } = require('./common.cjs');
const { createClientSession } = require('@ably/ai-transport');
const { createChatTransport, createToolResultFork, createUIMessageCodec } = require('@ably/ai-transport/vercel');
const {
  AbstractChat,
  lastAssistantMessageIsCompleteWithApprovalResponses,
  lastAssistantMessageIsCompleteWithToolCalls,
  readUIMessageStream,
} = require('ai');

const codec = createUIMessageCodec();
const sessions = {};
const runs = {};
const chats = {};
const finished = {}; // the reasons that chunks gave
const seen = {}; // the names of messages, and the kinds of chunks
const steered = {};
const ran = {}; // how often the page's tool was run

/** The state of `useChat`, without a framework. */
class ChatState {
  status = 'ready';
  error = undefined;
  messages = [];

  pushMessage(message) {
    this.messages = [...this.messages, message];
  }

  popMessage() {
    this.messages = this.messages.slice(0, -1);
  }

  replaceMessage(index, message) {
    this.messages = this.messages.map((old, at) => (at === index ? message : old));
  }

  snapshot(value) {
    return structuredClone(value);
  }
}

class PageChat extends AbstractChat {}

function shown(session) {
  return session.view.getMessages().map(({ message }) => message);
}

function textOf(message) {
  return message?.parts.filter((part) => part.type === 'text').map((part) => part.text).join('') ?? '';
}

function parts(who) {
  return shown(sessions[who]).flatMap((message) => message.parts);
}

/** The newest message with a tool call, and its run. */
function holding(who, toolCallId) {
  const { view } = sessions[who];
  const owns = ({ message }) => message.parts.some((part) => part.toolCallId === toolCallId);
  const { codecMessageId } = view.getMessages().filter(owns).at(-1);
  return { codecMessageId, runId: view.runOf(codecMessageId).runId };
}

const steps = {
  async open(who, how) {
    const session = createClientSession({ client: realtime(who), channelName: 'ai:chat', codec });
    await session.connect();
    finished[who] = [];
    seen[who] = [];
    session.tree.on('ably-message', ({ name, extras }) => {
      const kind = extras?.ai?.codec?.kind;
      seen[who].push(kind ? `${name} ${kind}` : name);
      if (extras?.ai?.codec?.kind === 'finish') finished[who].push(extras.ai.codec.finishReason);
    });
    if (how === 'late') while (session.view.hasOlder()) await session.view.loadOlder();
    sessions[who] = session;
  },
  async ask(who, question) {
    const parts = [{ type: 'text', text: question }];
    const user = codec.createUserMessage({ id: crypto.randomUUID(), role: 'user', parts });
    runs[who] = await sessions[who].view.send(user);
  },
  // Ask as useChat does, over the transport for it; `api` is what it POSTs to.
  async chat(who, api, question) {
    const parts = [{ type: 'text', text: question }];
    const transport = createChatTransport(sessions[who], { api });
    const messages = [{ id: crypto.randomUUID(), role: 'user', parts }];
    const stream = await transport.sendMessages({ trigger: 'submit-message', chatId: 'ai:chat', messages });
    chats[who] = (async () => {
      let last;
      for await (const message of readUIMessageStream({ stream })) last = message;
      return last;
    })();
  },
  async chatted(who) {
    return chats[who];
  },
  // What `useChat` is, over the transport for it. The page runs the tool `locate`.
  async useChat(who, api) {
    const messages = shown(sessions[who]);
    const state = new ChatState();
    state.messages = messages;
    const chat = new PageChat({
      id: 'ai:chat',
      state,
      transport: createChatTransport(sessions[who], { api }),
      sendAutomaticallyWhen: (options) =>
        lastAssistantMessageIsCompleteWithApprovalResponses(options) ||
        lastAssistantMessageIsCompleteWithToolCalls(options),
      onToolCall: ({ toolCall: { toolName, toolCallId } }) => {
        if (toolName !== 'locate') return;
        ran[who] = (ran[who] ?? 0) + 1;
        chat.addToolOutput({ tool: toolName, toolCallId, output: { city: 'Oslo' } });
      },
    });
    chats[who] = chat;
  },
  async chatSend(who, text) {
    chats[who].sendMessage({ text }); // its end is waited for by `chatIs`
  },
  async chatIs(who, status, text) {
    const now = () => [chats[who].status, textOf(chats[who].lastMessage)];
    await eventually(() => now()[0] === status && (text === undefined || now()[1] === text), now);
    return { error: chats[who].error?.message ?? null };
  },
  async chatTool(who, toolCallId, state) {
    const find = () => chats[who].messages.flatMap((message) => message.parts).find((part) => part.toolCallId === toolCallId);
    await eventually(() => find()?.state === state, () => chats[who].messages);
    return find();
  },
  async chatApprove(who, id, approved) {
    await chats[who].addToolApprovalResponse({ id, approved: approved === 'yes' });
  },
  async chatStop(who) {
    await chats[who].stop();
  },
  async ran(who) {
    return ran[who] ?? 0;
  },
  async regenerate(who) {
    runs[who] = await sessions[who].view.regenerate(sessions[who].view.getMessages().at(-1).codecMessageId);
  },
  async edit(who, question) {
    const last = sessions[who].view.getMessages().filter(({ message }) => message.role === 'user').at(-1);
    const parts = [{ type: 'text', text: question }];
    const user = codec.createUserMessage({ id: crypto.randomUUID(), role: 'user', parts });
    runs[who] = await sessions[who].view.edit(last.codecMessageId, user);
  },
  // The versions of the newest message of a role, and which is shown; `index`: show another.
  async versions(who, role, index) {
    const { view } = sessions[who];
    const newest = () => view.getMessages().filter(({ message }) => message.role === role).at(-1);
    const handle = () => view.branchSelection(newest().codecMessageId);
    if (index !== undefined) handle().select(Number(index));
    return [handle().siblings.length, handle().index];
  },
  // Ask with parts of the AI SDK, as JSON.
  async send(who, parts) {
    const message = { id: crypto.randomUUID(), role: 'user', parts: JSON.parse(parts) };
    runs[who] = await sessions[who].view.send(codec.createUserMessage(message));
  },
  // Answer what the agent asks approval of; `reason` may be left out.
  async approve(who, toolCallId, approved, reason) {
    const { codecMessageId, runId } = holding(who, toolCallId);
    const answer = { toolCallId, approved: approved === 'yes', ...(reason && { reason }) };
    const input = codec.createToolApprovalResponse(codecMessageId, answer);
    runs[who] = await sessions[who].view.send([input], { runId });
  },
  // Give what a tool of the page gave, as JSON: `output`, or `errorMessage`.
  async result(who, toolCallId, given) {
    const { codecMessageId, runId } = holding(who, toolCallId);
    const { output, errorMessage } = JSON.parse(given);
    const input =
      errorMessage === undefined
        ? codec.createToolResult(codecMessageId, { toolCallId, output })
        : codec.createToolResultError(codecMessageId, { toolCallId, message: errorMessage });
    runs[who] = await sessions[who].view.send([input], { runId });
  },
  // The same in a run of its own, which takes the place of the one that waits.
  async fork(who, toolCallId, output) {
    const { view, tree } = sessions[who];
    const node = tree.getRunNode(holding(who, toolCallId).runId);
    const { input, sendOptions } = createToolResultFork({
      runMessages: codec.getMessages(node.projection),
      parentCodecMessageId: node.parentCodecMessageId,
      toolCallId,
      result: { output: JSON.parse(output) },
      supersedesRunId: node.runId,
    });
    runs[who] = await view.send([input], sendOptions);
  },
  async steer(who, text) {
    const parts = [{ type: 'text', text }];
    steered[who] = runs[who].steer(codec.createUserMessage({ id: crypto.randomUUID(), role: 'user', parts }));
    await steered[who].published;
  },
  async steered(who) {
    return steered[who].outcome;
  },
  // Once a tool call is in a state.
  async tool(who, toolCallId, state) {
    const part = () => parts(who).find((one) => one.toolCallId === toolCallId);
    await eventually(() => part()?.state === state, part);
    return part();
  },
  async seen(who, wanted) {
    await eventually(() => seen[who].includes(wanted), () => seen[who]);
  },
  async steps(who) {
    return sessions[who].tree.getRunNode(runs[who].runId).steps.map(({ status }) => status);
  },
  async error(who) {
    return runs[who].error?.message ?? null;
  },
  async started(who) {
    await runs[who].started;
    return runs[who].runId;
  },
  async cancel(who) {
    await runs[who].cancel();
  },
  async status(who, wanted) {
    await eventually(() => runs[who].status === wanted, () => runs[who].status);
  },
  async text(who, wanted) {
    await eventually(() => textOf(shown(sessions[who]).at(-1)) === wanted, () => shown(sessions[who]));
  },
  async finished(who) {
    return finished[who];
  },
  // Once it has the field, which comes last.
  async metadata(who, field) {
    const metadata = () => shown(sessions[who]).at(-1)?.metadata ?? {};
    await eventually(() => field in metadata(), metadata);
    return metadata();
  },
  async messages(who) {
    return shown(sessions[who]);
  },
};

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [step, ...rest] = line.split('\t');
    try {
      process.stdout.write(`${JSON.stringify({ done: (await steps[step](...rest)) ?? null })}\n`);
    } catch (error) {
      process.stdout.write(`${JSON.stringify({ error: `${error.stack ?? error}` })}\n`);
    }
  }
  process.exit();
})();
