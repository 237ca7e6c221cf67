// tokenwire/ai-sdk: a transport for `useChat` of the AI SDK (5, 6 and 7) on tokenwire's ChatRoutes.
//
//   import { TokenwireChatTransport } from "tokenwire/ai-sdk"; // or "/stream/ai-sdk.js" of the gateway
//   const transport = new TokenwireChatTransport({ api: "/api/chat" });
//   const chat = useChat({ id, transport, resume: true });
//   <button onClick={() => transport.stop(id)}>Stop</button>
//
// The SDK's own `stop()` is also called when a component unmounts or shows another chat, so it only lets go of
// the line here: `transport.stop(id)` stops the agent, from any tab. A line that breaks is taken up again where it
// broke, also after the end of the answer, and the page is sent each piece once. docs/ui-protocols.md.

import { Message } from "./ai-sdk-message.js";
import { SseParser, TokenwireError } from "./tokenwire.js";

const DEFAULTS = {
  api: "/api/chat",
  minDelay: 250, // milliseconds before the first reconnect, doubled each time up to
  maxDelay: 15_000,
  giveUpAfter: 300_000, // milliseconds without anything new, after which the chat is in error
  silence: 45_000, // without a byte for so long, the line counts as dead
};
const ACCEPT = { accept: "text/event-stream, application/problem+json" };

/** A `ChatTransport` of the AI SDK. Options in docs/ui-protocols.md. */
export class TokenwireChatTransport {
  /** A resumed stream is the whole message (AI SDK 6 and 7). */
  resumeStreamIsReplay = true;

  constructor(options = {}) {
    this._options = { ...DEFAULTS, ...options };
    this._fetch = options.fetch ?? ((url, init) => globalThis.fetch(url, init));
    this._unfinished = new Map(); // by chat: the run whose line was lost for good
    this._stopping = new Map(); // by chat: a stop that has not been answered
    this._stopped = new Set(); // chats that the user stopped, and has not written in since
  }

  async sendMessages({ chatId, messages, trigger, messageId, abortSignal, headers, body, metadata }) {
    const last = messages.at(-1);
    const goesOn = last?.role === "assistant" && trigger !== "regenerate-message";
    if (!goesOn) this._stopped.delete(chatId);
    // What the SDK sends by itself, once a tool of the page is done, must not undo a stop.
    else if (this._stopped.has(chatId)) throw new DOMException("the user has stopped this chat", "AbortError");
    await this._stopping.get(chatId)?.catch(() => {}); // which must not be taken for a stop of what comes now
    const sent = this._options.lastMessageOnly ? { message: last } : { messages };
    const response = await this._request(this._options.api, {
      method: "POST",
      headers: { ...ACCEPT, "content-type": "application/json", ...(await this._headers(headers)) },
      body: JSON.stringify({
        ...(await valueOf(this._options.body)),
        ...body,
        id: chatId,
        ...sent,
        trigger,
        messageId,
        ...(metadata === undefined ? {} : { metadata }),
      }),
      signal: abortSignal,
    });
    const shown = goesOn ? last.metadata?.run : undefined;
    return this._stream(chatId, response, { headers, abortSignal, earlier: false, shown });
  }

  async reconnectToStream({ chatId, headers, abortSignal }) {
    const response = await this._resume(chatId, { run: this._unfinished.get(chatId), headers, abortSignal });
    if (response.status !== 204) return this._stream(chatId, response, { headers, abortSignal, earlier: true });
    this._unfinished.delete(chatId);
    return null;
  }

  /**
   * Stop the agent of a chat, whichever tab asked it, and wherever it runs. Resolves with what became of it:
   * `{success, run, state}`; every tab's stream ends. Rejects with a `TokenwireError` where it could not be told.
   */
  async stop(chatId, options) {
    this._stopped.add(chatId);
    const stopping = this._stop(chatId, options);
    this._stopping.set(chatId, stopping);
    try {
      return await stopping;
    } finally {
      if (this._stopping.get(chatId) === stopping) this._stopping.delete(chatId);
    }
  }

  async _stop(chatId, { headers, signal } = {}) {
    const response = await this._request(`${this._options.api}/${encodeURIComponent(chatId)}/stop`, {
      method: "POST",
      headers: { "content-type": "application/json", ...(await this._headers(headers)) },
      body: "{}",
      keepalive: true, // a page that goes is heard, too
      signal,
    });
    return response.json();
  }

  // -- requests

  async _headers(own) {
    return { ...plainHeaders(await valueOf(this._options.headers)), ...plainHeaders(own) };
  }

  _resume(chatId, { run, headers, abortSignal, earlier = true }) {
    const query = new URLSearchParams({ ...(run ? { run } : {}), ...(earlier ? {} : { earlier: "0" }) });
    const url = `${this._options.api}/${encodeURIComponent(chatId)}/stream${query.size > 0 ? `?${query}` : ""}`;
    return this._headers(headers).then((all) => this._request(url, { headers: all, signal: abortSignal }));
  }

  async _request(url, init) {
    const credentials = await valueOf(this._options.credentials);
    const response = await this._fetch(url, { ...init, ...(credentials === undefined ? {} : { credentials }) });
    if (response.ok) return response;
    const text = await response.text().catch(() => "");
    let problem = {};
    try {
      problem = JSON.parse(text) ?? {};
    } catch {
      // a proxy's page
    }
    const status = response.status;
    const message = problem.detail ?? problem.title ?? `the server answered ${status}`;
    const seconds = Number(response.headers.get("retry-after"));
    throw new TokenwireError(problem.code ?? "refused", message, { status, retryAfter: seconds > 0 ? seconds : null });
  }

  // -- the stream

  _stream(chatId, response, { headers, abortSignal, earlier, shown }) {
    const closing = new AbortController();
    const signal = abortSignal ? AbortSignal.any([abortSignal, closing.signal]) : closing.signal;
    const chunks = this._chunks(chatId, response, { headers, signal, earlier, shown });
    return new ReadableStream({
      async pull(controller) {
        const { done, value } = await chunks.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel() {
        closing.abort();
        chunks.return().catch(() => {});
      },
    });
  }

  /** The chunks of an answer, each once, over as many lines as it takes. */
  async *_chunks(chatId, response, { headers, signal, earlier, shown }) {
    const { giveUpAfter } = this._options;
    const message = new Message();
    let progress = Date.now();
    for (let attempt = 0; ; attempt++) {
      let failure;
      try {
        if (response === null) {
          const run = message.run;
          response = await this._resume(chatId, { run, headers, abortSignal: signal, earlier });
          if (response.status === 204) throw new TokenwireError("gone", "the rest of the answer is not kept any more");
          message.replay();
        }
        for await (const chunk of readChunks(response, this._options.silence, signal)) {
          for (const fresh of message.take(chunk)) {
            progress = Date.now();
            attempt = 0;
            if (fresh.type === "abort") this._stopped.add(chatId); // perhaps by another tab
            yield fresh;
          }
          if (message.ended) {
            this._unfinished.delete(chatId);
            return;
          }
        }
        failure = new TypeError("network error: the line ended before the answer did");
      } catch (error) {
        failure = error;
      }
      if (signal.aborted) throw abortReason(signal);
      if (message.run) this._unfinished.set(chatId, message.run);
      // Of a run that the page has in part (it waited for an approval) only `resumeStream()` can show the rest.
      if (isFinal(failure) || !message.run || message.run === shown || Date.now() - progress > giveUpAfter) throw failure;
      response = null;
      await this._pause(attempt, failure.retryAfter, signal);
    }
  }

  _pause(attempt, retryAfter, signal) {
    const { minDelay, maxDelay } = this._options;
    const delay = retryAfter ? retryAfter * 1000 : Math.min(maxDelay, minDelay * 2 ** attempt) * (0.5 + Math.random() / 2);
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        globalThis.removeEventListener?.("online", done);
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, delay);
      globalThis.addEventListener?.("online", done);
      signal.addEventListener("abort", done);
    });
  }
}

/** Whether trying again cannot help. */
function isFinal(error) {
  if (error.code === "gone") return true;
  const { status } = error;
  return typeof status === "number" && status >= 400 && status < 500 && status !== 408 && status !== 429;
}

function abortReason(signal) {
  return signal.reason?.name === "AbortError" ? signal.reason : new DOMException("aborted", "AbortError");
}

async function valueOf(option) {
  return typeof option === "function" ? option() : option;
}

function plainHeaders(headers) {
  return headers instanceof Headers ? Object.fromEntries(headers) : Object.fromEntries(Object.entries(headers ?? {}));
}

/** The chunks in the body of a response; ends, or throws, where the line does. */
async function* readChunks(response, silence, signal) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let pending = [];
  const parser = new SseParser(({ data }) => pending.push(data));
  try {
    for (;;) {
      const { done, value } = await within(reader.read(), silence, signal);
      if (done) return;
      parser.push(decoder.decode(value, { stream: true }));
      const chunks = pending;
      pending = [];
      for (const data of chunks) if (data !== "[DONE]") yield JSON.parse(data);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function within(promise, milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => reject(abortReason(signal));
    const timer = setTimeout(() => reject(new TypeError("network error: the line fell silent")), milliseconds);
    const settle = (step) => (value) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      step(value);
    };
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort);
    promise.then(settle(resolve), settle(reject));
  });
}
