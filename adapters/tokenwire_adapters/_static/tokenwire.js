// tokenwire.js: watch channels of a tokenwire gateway from a browser, or from Node 20 and newer.
//
//   import { connect } from "/stream/tokenwire.js";
//   const channel = connect("/stream").channel("chat-42", { rewind: "all" });
//   channel.on("response", (response) => render(response));
//
// One file, no dependencies, no build step, nothing persisted. The protocol is in docs/gateway.md,
// the folding rules are those of core/tokenwire/response.py: what this file assembles is what the
// Python reducer assembles from the same events.

const ENDED = new Set(["complete", "cancelled", "failed", "abandoned"]);
const PROTOCOL = "tokenwire.v1";
const DEFAULTS = {
  transport: "auto", // "websocket" or "sse" to allow only that one
  minDelay: 250, // milliseconds before the first reconnect, doubled each time up to
  maxDelay: 15_000,
  silence: 45_000, // without a sign of the server for so long, the line counts as dead
  connectTimeout: 10_000,
  requestTimeout: 30_000,
};

/** What went wrong, with the gateway's stable `code` (docs/gateway.md) or "network", "closed", "timeout". */
export class TokenwireError extends Error {
  constructor(code, message, { status = null, retryAfter = null, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "TokenwireError";
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Something before this event is missing. A `Channel` deals with it by reading again. */
export class GapError extends Error {
  constructor(responseId, message) {
    super(message);
    this.name = "GapError";
    this.responseId = responseId;
  }
}

// -- assembling

/** Code points of a string. JavaScript's strings are UTF-16; offsets in events are code points. */
export function codePoints(text) {
  let count = text.length;
  for (let i = text.length - 2; i >= 0; i--) {
    if ((text.charCodeAt(i) & 0xfc00) === 0xd800 && (text.charCodeAt(i + 1) & 0xfc00) === 0xdc00) {
      count--;
    }
  }
  return count;
}

/** The UTF-16 index at which code point number `count` begins. */
function indexOf(text, count) {
  let i = 0;
  for (; count > 0 && i < text.length; count--) i += text.codePointAt(i) > 0xffff ? 2 : 1;
  return i;
}

function own(value) {
  return value === undefined ? null : value;
}

/** One reply of a model, as it is now. Fields are named as on the wire. Immutable: a change gives a new one. */
export class Response {
  constructor(fields) {
    this.id = fields.id;
    this.channel = fields.channel ?? "";
    this.run = own(fields.run);
    this.state = fields.state ?? "streaming";
    this.parts = fields.parts ?? [];
    this.tool_results = fields.tool_results ?? [];
    this.finish_reason = own(fields.finish_reason);
    this.usage = own(fields.usage);
    this.error = own(fields.error);
    this.metadata = fields.metadata ?? {};
    this.started_at = own(fields.started_at);
    this.ended_at = own(fields.ended_at);
  }

  #join(kind) {
    let text = "";
    for (const part of this.parts) if (part.kind === kind) text += part.text;
    return text;
  }

  get text() {
    return this.#join("text");
  }

  get reasoning() {
    return this.#join("reasoning");
  }

  get refusal() {
    return this.#join("refusal");
  }

  get tool_calls() {
    return this.parts.filter((part) => part.kind === "tool_call");
  }

  get ended() {
    return ENDED.has(this.state);
  }
}

function makePart(part) {
  return {
    kind: part.kind,
    text: part.text ?? "",
    name: own(part.name),
    call_id: own(part.call_id),
    data: own(part.data),
  };
}

function makeResult(result) {
  return {
    call_id: result.call_id,
    name: own(result.name),
    output: own(result.output),
    error: own(result.error),
  };
}

/** Folds the events of one response. */
export class Assembler {
  #head = {};
  #parts = [];
  #lengths = []; // of each part, in code points: counted once, as the text comes
  #results = new Map();
  #response = null;

  constructor(id) {
    this.id = id;
    this.state = null;
    this.length = 0;
  }

  get response() {
    if (this.#response === null) {
      if (this.state === null) throw new GapError(this.id, `response ${this.id} has not started`);
      this.#response = new Response({
        ...this.#head,
        id: this.id,
        state: this.state,
        parts: this.#parts.slice(),
        tool_results: [...this.#results.values()],
      });
    }
    return this.#response;
  }

  /** Fold one event in; say whether it changed anything. Throws `GapError`, and then nothing has changed. */
  apply(event, channel = "") {
    const step = STEPS[event.type];
    const changed = step === undefined ? false : step.call(this, event, channel);
    if (changed) this.#response = null;
    return changed;
  }

  #grow(part) {
    if (this.state === null) throw new GapError(this.id, `response ${this.id} has not started`);
    if (ENDED.has(this.state)) return false;
    if (part > this.#parts.length) {
      throw new GapError(this.id, `response ${this.id} lacks what precedes part ${part}`);
    }
    return true;
  }

  start(event, channel) {
    if (this.state !== null) return false;
    this.state = "streaming";
    this.#head = {
      channel: event.channel || channel,
      run: event.run,
      metadata: event.metadata,
      started_at: event.ts,
    };
    return true;
  }

  part(event) {
    if (!this.#grow(event.part) || event.part < this.#parts.length) return false;
    this.#parts.push(makePart({ ...event, text: "" }));
    this.#lengths.push(0);
    return true;
  }

  delta(event) {
    const at = event.part;
    if (!this.#grow(at)) return false;
    const fresh = at === this.#parts.length;
    const have = fresh ? 0 : this.#lengths[at];
    if (event.offset > have) {
      throw new GapError(this.id, `response ${this.id} lacks text before ${event.offset}`);
    }
    const seen = have - event.offset;
    const text = seen === 0 ? event.text : event.text.slice(indexOf(event.text, seen));
    if (fresh) {
      this.#parts.push(makePart({ kind: event.kind }));
      this.#lengths.push(0);
    } else if (text === "") {
      return false;
    }
    const grown = codePoints(text);
    this.#parts[at] = { ...this.#parts[at], text: this.#parts[at].text + text };
    this.#lengths[at] += grown;
    this.length += grown;
    return true;
  }

  snapshot({ response }) {
    const parts = response.parts ?? [];
    const lengths = parts.map((part) => codePoints(part.text ?? ""));
    const length = lengths.reduce((sum, one) => sum + one, 0);
    const state = response.state ?? "streaming";
    const results = (response.tool_results ?? []).map(makeResult);
    if (this.state !== null) {
      const ahead = [Number(ENDED.has(state)), parts.length, length];
      const here = [Number(ENDED.has(this.state)), this.#parts.length, this.length];
      if (!isAfter(ahead, here)) {
        const missing = results.filter((result) => !this.#results.has(result.call_id));
        for (const result of missing) this.#results.set(result.call_id, result);
        return missing.length > 0;
      }
    }
    this.state = state;
    this.length = length;
    this.#head = { ...response };
    this.#parts = parts.map(makePart);
    this.#lengths = lengths;
    for (const result of results) this.#results.set(result.call_id, result);
    return true;
  }

  end(event) {
    if (this.state === null) throw new GapError(this.id, `response ${this.id} has not started`);
    if (ENDED.has(this.state)) return false;
    this.state = event.state;
    Object.assign(this.#head, {
      finish_reason: event.finish_reason,
      usage: event.usage,
      error: event.error,
      ended_at: event.ts,
    });
    return true;
  }

  toolResult(event) {
    if (this.state === null || this.#results.has(event.call_id)) return false;
    this.#results.set(event.call_id, makeResult(event));
    return true;
  }
}

const STEPS = {
  __proto__: null,
  start: Assembler.prototype.start,
  part: Assembler.prototype.part,
  delta: Assembler.prototype.delta,
  snapshot: Assembler.prototype.snapshot,
  end: Assembler.prototype.end,
  tool_result: Assembler.prototype.toolResult,
};

function isAfter(left, right) {
  for (let i = 0; i < left.length; i++) {
    if (left[i] !== right[i]) return left[i] > right[i];
  }
  return false;
}

function responseIdOf(event) {
  if (event.type === "snapshot") return event.response.id;
  if (event.type === "input") return null;
  return typeof event.response_id === "string" ? event.response_id : null;
}

/** Folds the events of a channel: its responses, in the order in which they were first seen. */
export class Transcript {
  #assemblers = new Map();

  /** Fold `event` in; return its response as it is now, null where it has none. */
  apply(event) {
    return this.change(event)?.response ?? null;
  }

  /** The same, but return the assembler and only where the event changed it. */
  change(event, channel = "") {
    const id = responseIdOf(event);
    if (id === null) return null;
    let assembler = this.#assemblers.get(id);
    if (assembler !== undefined) {
      this.changed = assembler.apply(event, channel);
      return assembler;
    }
    assembler = new Assembler(id);
    this.changed = assembler.apply(event, channel);
    if (assembler.state === null) return null; // a cancel or tool result of a response not seen
    this.#assemblers.set(id, assembler);
    return assembler;
  }

  get(id) {
    return this.#assemblers.get(id)?.response;
  }

  has(id) {
    return this.#assemblers.has(id);
  }

  get size() {
    return this.#assemblers.size;
  }

  clear() {
    this.#assemblers.clear();
  }

  *[Symbol.iterator]() {
    for (const assembler of this.#assemblers.values()) yield assembler.response;
  }
}

// -- events of our own

class Emitter {
  #listeners = new Map();

  /** Call `listener` at each `type`; returns a function that ends it. */
  on(type, listener) {
    let listeners = this.#listeners.get(type);
    if (listeners === undefined) this.#listeners.set(type, (listeners = new Set()));
    const entry = { listener };
    listeners.add(entry);
    return () => listeners.delete(entry);
  }

  once(type, listener) {
    const off = this.on(type, (...args) => {
      off();
      listener(...args);
    });
    return off;
  }

  emit(type, ...args) {
    for (const { listener } of [...(this.#listeners.get(type) ?? [])]) {
      try {
        listener(...args);
      } catch (error) {
        queueMicrotask(() => {
          throw error; // the page's own error handling sees it; the stream goes on
        });
      }
    }
  }
}

// -- server-sent events (WHATWG HTML, section 9.2)

/** Splits a stream of text into server-sent events. */
export class SseParser {
  #rest = "";
  #data = [];
  #type = "";
  #id = null;
  #skipLf = false;

  constructor(onEvent) {
    this.onEvent = onEvent;
    this.lastId = null;
  }

  push(text) {
    if (this.#skipLf && text.startsWith("\n")) text = text.slice(1);
    this.#skipLf = false;
    if (text === "") return;
    const all = this.#rest + text;
    let from = 0;
    for (let i = this.#rest.length; i < all.length; i++) {
      const code = all.charCodeAt(i);
      if (code !== 10 && code !== 13) continue;
      this.#line(all.slice(from, i));
      if (code === 13) {
        if (i + 1 === all.length) this.#skipLf = true;
        else if (all.charCodeAt(i + 1) === 10) i++;
      }
      from = i + 1;
    }
    this.#rest = all.slice(from);
  }

  #line(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#type = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
  }

  #dispatch() {
    if (this.#id !== null) this.lastId = this.#id;
    if (this.#data.length > 0) {
      this.onEvent({ type: this.#type || "message", data: this.#data.join("\n"), id: this.#id });
    }
    this.#data = [];
    this.#type = "";
    this.#id = null;
  }
}

// -- a channel

/**
 * One channel, watched through a connection. Get it from `Connection.channel`.
 *
 * Events: "response" (response), "event" (event), each event's own type (event), "ready" (),
 * "reset" (reason), "error" (TokenwireError), "end" of a response (event), "close" ().
 */
export class Channel extends Emitter {
  #connection;
  #transcript = new Transcript();
  #known;
  #gapAt; // the cursor at which a gap was met last
  #mentioned = null; // ids of responses that events named since the last join; null once joined

  constructor(connection, name, options, sub) {
    super();
    this.name = name;
    this.cursor = options.after ?? null;
    this.ready = false;
    this.closed = false;
    this.error = null;
    this.sub = sub;
    this.only = options.response ?? null;
    this.rewind = options.rewind == null ? null : String(options.rewind);
    this.#known = new Set(options.known ?? []);
    this.#connection = connection;
  }

  /** The responses seen, in the order in which they began, by id. */
  get responses() {
    return [...this.#transcript];
  }

  get(id) {
    return this.#transcript.get(id);
  }

  /** The connection's status: "connecting", "live", "waiting", "paused" or "closed". */
  get status() {
    return this.closed ? "closed" : this.#connection.status;
  }

  cancel(responseId, reason) {
    return this.#connection.request("cancel", this.name, { response: responseId, reason });
  }

  /** Send a message to the agent. An id of your own makes a retry of yours harmless. */
  send(name, data = null, { id = newId() } = {}) {
    return this.#connection.request("input", this.name, { name, data, input_id: id });
  }

  /** A page of responses, newest first: `{items, next}`; give `next` as `before` to read on. */
  async history({ limit, before } = {}) {
    const page = await this.#connection.request("history", this.name, { limit, before });
    return { items: page.items.map((item) => new Response(readResponse(item))), next: page.next };
  }

  close() {
    if (this.closed) return;
    this.closed = true;
    this.emit("close");
    this.#connection.leave(this);
  }

  // -- what the connection calls

  /** Take a batch; false where something is missing, and the channel has to be joined again. */
  take(events, cursor) {
    const changed = new Map();
    let whole = true;
    for (const event of events) {
      const id = responseIdOf(event);
      if (id !== null && this.#known.has(id)) continue;
      this.#mentioned?.add(id);
      try {
        const assembler = this.#transcript.change(event, this.name);
        if (assembler !== null && this.#transcript.changed) changed.set(assembler.id, assembler);
      } catch (error) {
        if (!(error instanceof GapError)) throw error;
        whole = false;
        break;
      }
      this.emit("event", event);
      this.emit(event.type, event);
      if (this.closed) return true;
    }
    for (const assembler of changed.values()) this.emit("response", assembler.response);
    if (whole && cursor !== null) this.cursor = cursor;
    return whole;
  }

  /** Everything up to now was received; `reset`: our cursor is no longer in the log. */
  arrived(reset) {
    const mentioned = this.#mentioned;
    if (mentioned !== null) {
      this.#mentioned = null;
      this.#gapAt = undefined;
      const doubtful = this.responses.filter(({ id, ended }) => !ended && !mentioned.has(id));
      if (reset && doubtful.length > 0) this.#verify(doubtful);
    }
    if (this.ready) return;
    this.ready = true;
    this.emit("ready");
  }

  /**
   * Responses streamed before the connection was lost, and no event named them since, although a
   * join names every response that streams: where the log was replaced (a server with a backend in
   * memory was started again) nobody will ever end them.
   */
  async #verify(doubtful) {
    let items = [];
    try {
      ({ items } = await this.history({ limit: 100 }));
    } catch (error) {
      if (error.status !== 401 && error.status !== 403) return; // else it is not ours to read
    }
    if (this.closed || doubtful.every(({ id }) => items.some((item) => item.id === id))) return;
    this.startOver("lost");
    this.#connection.rejoin(this);
  }

  /** What to subscribe with. */
  start() {
    this.#mentioned = new Set();
    const from = this.cursor !== null ? { after: this.cursor } : { rewind: this.rewind ?? undefined };
    return { ...from, response: this.only ?? undefined };
  }

  /** A hole: read again from the last cursor; where that does not help, from the beginning. */
  gap() {
    if (this.#gapAt === this.cursor) this.startOver("gap");
    else this.#gapAt = this.cursor;
  }

  /** The log that we were in is gone, and what we have of it with it. */
  startOver(reason) {
    this.cursor = null;
    this.ready = false;
    this.#transcript.clear();
    this.emit("reset", reason);
  }

  fail(error) {
    this.error = error;
    this.emit("error", error);
    this.close();
  }
}

function readResponse(item) {
  return { ...item, parts: (item.parts ?? []).map(makePart), tool_results: (item.tool_results ?? []).map(makeResult) };
}

function newId() {
  return `i-${globalThis.crypto.randomUUID()}`;
}

// -- a connection

/**
 * Many channels over one socket; where sockets do not work, over event streams.
 *
 * Events: "status" (status), "error" (TokenwireError).
 */
export class Connection extends Emitter {
  #options;
  #base;
  #channels = new Set();
  #line = null;
  #timer = null;
  #attempt = 0;
  #failures = 0; // attempts in a row that did not open a line
  #socketWorked = false;
  #unlisten = null;

  constructor(baseUrl, options = {}) {
    super();
    const base = new URL(baseUrl, globalThis.location?.href);
    if (!base.pathname.endsWith("/")) base.pathname += "/";
    base.search = base.hash = "";
    this.#base = base;
    this.#options = { ...DEFAULTS, fetch: globalThis.fetch?.bind(globalThis), WebSocket: globalThis.WebSocket, ...options };
    this.status = "idle";
    this.reconnects = 0;
  }

  /** What carries events now: "websocket", "sse" or null. */
  get transport() {
    return this.#line?.opened ? this.#line.kind : null;
  }

  /** Watch a channel. `{after, rewind, response, known}` as in docs/javascript.md. */
  channel(name, options = {}) {
    if (this.status === "closed") throw new TokenwireError("closed", "this connection is closed");
    if (typeof name !== "string" || name === "") throw new TypeError("a channel has a name");
    const taken = new Set([...this.#channels].filter((one) => one.name === name).map((one) => one.sub));
    let sub = null;
    for (let n = 2; taken.has(sub); n++) sub = `s${n}`;
    const channel = new Channel(this, name, options, sub);
    this.#channels.add(channel);
    this.#listen();
    // After the caller had the time to add listeners.
    queueMicrotask(() => {
      if (channel.closed) return;
      if (this.#line?.opened) this.#line.join(channel);
      else this.#wake();
    });
    return channel;
  }

  /** Let go of the line until `resume`; channels stay as they are. */
  pause() {
    if (this.status === "closed") return;
    this.#drop();
    this.#set("paused");
  }

  resume() {
    if (this.status !== "paused") return;
    this.#attempt = 0;
    this.#set("idle");
    this.#wake();
  }

  close() {
    if (this.status === "closed") return;
    this.#drop();
    this.#unlisten?.();
    for (const channel of [...this.#channels]) channel.close();
    this.#set("closed");
  }

  // -- what channels call

  leave(channel) {
    this.#channels.delete(channel);
    this.#line?.leave(channel);
    if (this.#channels.size > 0 || this.status === "closed" || this.status === "paused") return;
    this.#drop();
    this.#unlisten?.();
    this.#unlisten = null;
    this.#set("idle");
  }

  rejoin(channel) {
    const line = this.#line;
    Promise.resolve(line?.leave(channel)).then(() => {
      if (line === this.#line && !channel.closed) line?.join(channel);
    });
  }

  /** Ask the gateway for something, over the socket or HTTP; safe to repeat, so repeated where the network fails. */
  async request(op, channel, fields) {
    const { requestTimeout } = this.#options;
    const deadline = Date.now() + requestTimeout;
    for (let attempt = 0; ; attempt++) {
      if (this.status === "closed") throw new TokenwireError("closed", "this connection is closed");
      const line = this.#line;
      const left = deadline - Date.now();
      try {
        if (line?.kind === "websocket" && line.opened) return await line.request({ op, channel, ...fields }, left);
        return await this.#post(op, channel, fields, left);
      } catch (error) {
        const transient = error instanceof TokenwireError && (error.code === "network" || error.status === 429 || error.status === 503);
        const wait = error.retryAfter != null ? error.retryAfter * 1000 : this.#backoff(attempt);
        if (!transient || Date.now() + wait > deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    }
  }

  async #post(op, channel, fields, timeout) {
    const name = encodeURIComponent(channel);
    if (op === "history") {
      const query = new URLSearchParams();
      for (const key of ["limit", "before"]) if (fields[key] != null) query.set(key, fields[key]);
      return this.fetch(`channels/${name}/responses?${query}`, { timeout });
    }
    const body = op === "cancel" ? { reason: fields.reason } : { name: fields.name, data: fields.data, id: fields.input_id };
    const path = op === "cancel" ? `responses/${encodeURIComponent(fields.response)}/cancel` : "inputs";
    return this.fetch(`channels/${name}/${path}`, { method: "POST", body: JSON.stringify(body), timeout });
  }

  // -- what lines call

  get options() {
    return this.#options;
  }

  url(path, scheme) {
    const url = new URL(path, this.#base);
    if (scheme === "ws") url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    return url;
  }

  async token() {
    const { token } = this.#options;
    return typeof token === "function" ? await token() : (token ?? null);
  }

  get members() {
    return [...this.#channels];
  }

  get renewable() {
    return typeof this.#options.token === "function";
  }

  /** Fetch a path of the gateway; the response where `stream`, else its JSON. Throws `TokenwireError`. */
  async fetch(path, { method = "GET", body, headers = {}, stream = false, signal, timeout } = {}) {
    const control = new AbortController();
    const stop = () => control.abort();
    signal?.addEventListener("abort", stop);
    const timer = timeout === undefined ? null : setTimeout(stop, timeout);
    try {
      const token = await this.token();
      if (token !== null) headers = { ...headers, authorization: `Bearer ${token}` };
      if (body !== undefined) headers = { ...headers, "content-type": "application/json" };
      const { credentials } = this.#options;
      const answer = await this.#options.fetch(this.url(path), { method, body, headers, signal: control.signal, cache: "no-store", ...(credentials ? { credentials } : {}) });
      if (!answer.ok) throw await problemOf(answer);
      return stream ? answer : await answer.json();
    } catch (error) {
      if (error instanceof TokenwireError) throw error;
      throw new TokenwireError("network", `cannot reach ${this.url(path).origin}`, { cause: error });
    } finally {
      clearTimeout(timer);
      if (!stream) signal?.removeEventListener("abort", stop);
    }
  }

  openedBy(line) {
    if (line !== this.#line) return;
    if (line.kind === "websocket") {
      this.#socketWorked = true;
      this.#failures = 0;
    }
    this.#set("live");
    for (const channel of this.#channels) line.join(channel);
  }

  /** The line works: the next reconnect need not wait. */
  healthy() {
    this.#attempt = 0;
  }

  /** A line is gone. `retry`: milliseconds that the server asks to wait; `fatal`: an error that repeating will not mend. */
  lostBy(line, { retry = null, fatal = null, code = null } = {}) {
    if (line !== this.#line) return;
    const opened = line.opened;
    this.#drop();
    if (fatal !== null) {
      this.emit("error", fatal);
      for (const channel of [...this.#channels]) channel.fail(fatal);
      return;
    }
    if (opened) {
      this.reconnects++;
      if (this.#socketWorked) this.#failures = 0;
    } else {
      this.#failures++;
    }
    if (this.#channels.size === 0) return this.#set("idle");
    const first = !opened && !this.#socketWorked && this.#failures === 1 && line.kind === "websocket" && code !== 4401;
    const wait = first ? 0 : Math.max(retry ?? 0, retry === null ? this.#backoff(this.#attempt) : 0);
    this.#attempt++;
    this.#set("waiting");
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#wake();
    }, wait);
  }

  // -- within

  #backoff(attempt) {
    const { minDelay, maxDelay } = this.#options;
    return Math.min(maxDelay, minDelay * 2 ** Math.min(attempt, 20)) * (0.5 + Math.random() / 2);
  }

  #choose() {
    const { transport, WebSocket } = this.#options;
    if (transport !== "auto") return transport;
    if (typeof WebSocket !== "function") return "sse";
    const f = this.#failures;
    return (this.#socketWorked ? f % 3 === 2 : f % 4 !== 0) ? "sse" : "websocket";
  }

  #wake() {
    if (this.#line !== null || this.#timer !== null || this.#channels.size === 0) return;
    if (this.status === "paused" || this.status === "closed") return;
    this.#set("connecting");
    const line = this.#choose() === "websocket" ? new SocketLine(this) : new StreamLine(this);
    this.#line = line;
    line.open(this.members[0].name);
  }

  #drop() {
    clearTimeout(this.#timer);
    this.#timer = null;
    const line = this.#line;
    this.#line = null;
    line?.close();
  }

  #set(status) {
    if (this.status === status || this.status === "closed") return;
    this.status = status;
    this.emit("status", status);
  }

  /** The browser's hints are hints: a page of this machine works without any network. */
  #listen() {
    if (this.#unlisten !== null || typeof globalThis.addEventListener !== "function") return;
    const hint = () => {
      if (globalThis.document?.visibilityState === "hidden") return;
      if (this.#timer !== null && globalThis.navigator?.onLine !== false) {
        clearTimeout(this.#timer);
        this.#timer = null;
        this.#wake();
      } else {
        this.#line?.probe();
      }
    };
    const places = [[globalThis, "online"], [globalThis, "offline"], [globalThis, "pageshow"]];
    if (globalThis.document) places.push([globalThis.document, "visibilitychange"]);
    for (const [target, type] of places) target.addEventListener(type, hint);
    this.#unlisten = () => {
      for (const [target, type] of places) target.removeEventListener(type, hint);
    };
  }
}

async function problemOf(answer) {
  let problem = {};
  try {
    problem = await answer.json();
  } catch {
    // not a problem document: a proxy's page, perhaps
  }
  const after = Number.parseFloat(answer.headers.get("retry-after"));
  return new TokenwireError(problem.code ?? `http_${answer.status}`, problem.detail ?? `the gateway answered ${answer.status}`, {
    status: answer.status,
    retryAfter: Number.isFinite(after) ? after : null,
  });
}

/** What both kinds of line have: a clock that notices when the server has gone silent. */
class Line {
  opened = false;
  closed = false;
  #receivedAt = Date.now();
  #watchdog = null;

  constructor(connection) {
    this.connection = connection;
  }

  received() {
    this.#receivedAt = Date.now();
  }

  open() {
    const { silence, connectTimeout } = this.connection.options;
    const opening = Date.now();
    this.#watchdog = setInterval(() => {
      const limit = this.opened ? silence : connectTimeout;
      if (Date.now() - (this.opened ? this.#receivedAt : opening) > limit) this.lost();
    }, Math.min(1000, silence / 3));
  }

  isOpen() {
    if (this.opened || this.closed) return;
    this.opened = true;
    this.received();
    this.connection.openedBy(this);
  }

  lost(how) {
    if (!this.closed) this.connection.lostBy(this, how);
  }

  close() {
    this.closed = true;
    clearInterval(this.#watchdog);
  }

  /** A subscription was refused or ended: begin again, later, or never. */
  refused(channel, error) {
    if (this.closed || channel.closed) return;
    if (error.code === "bad_cursor" && channel.cursor !== null) {
      channel.startOver("bad_cursor");
      this.join(channel);
    } else if (error.status === 401) {
      this.lost(this.connection.renewable ? {} : { fatal: error });
    } else if (error.status === null || error.status === 429 || error.status >= 500 || error.status === 408) {
      this.lost({ retry: error.retryAfter === null ? null : error.retryAfter * 1000 });
    } else {
      channel.fail(error);
    }
  }
}

class SocketLine extends Line {
  kind = "websocket";
  #socket = null;
  #pending = new Map();
  #next = 1;
  #subscriptions = new Map(); // key -> channel
  #renewal = null;

  async open(first) {
    super.open();
    const { WebSocket } = this.connection.options;
    const url = this.connection.url(`channels/${encodeURIComponent(first)}/ws`, "ws");
    try {
      this.#socket = new WebSocket(url.href, [PROTOCOL]);
    } catch {
      return this.lost();
    }
    this.#socket.onmessage = (message) => {
      this.received();
      if (this.closed) return;
      try {
        this.#take(JSON.parse(message.data));
      } catch (error) {
        this.lost();
        throw error;
      }
    };
    this.#socket.onclose = ({ code }) => this.#closedWith(code);
    this.#socket.onerror = () => setTimeout(() => this.lost(), 50); // where no close follows
  }

  #closedWith(code) {
    const about = { code };
    if (code === 4403) about.fatal = new TokenwireError("forbidden", "the gateway does not allow this", { status: 403 });
    if (code === 4400) about.fatal = new TokenwireError("bad_request", "the gateway did not understand this client", { status: 400 });
    if (code === 4401 && !this.connection.renewable) {
      about.fatal = new TokenwireError("unauthorized", "the gateway wants a valid token", { status: 401 });
    }
    this.lost(about);
  }

  async #auth() {
    const token = await this.connection.token();
    if (token === null) throw new TokenwireError("unauthorized", "the gateway wants a token", { status: 401 });
    this.#renewLater((await this.request({ op: "auth", token })).expires);
  }

  #renewLater(expires) {
    if (expires === null || !this.connection.renewable || this.closed) return;
    const left = expires - Date.now();
    const wait = Math.max(1000, Math.min(left - Math.min(30_000, left / 5), 2 ** 31 - 1));
    this.#renewal = setTimeout(() => this.#auth().catch(() => this.lost()), wait);
  }

  #take(message) {
    switch (message.op) {
      case "hello":
        if (message.auth === "required") {
          this.#auth().then(
            () => this.isOpen(),
            (error) => this.lost(error.status === 401 && !this.connection.renewable ? { fatal: error } : {}),
          );
        } else {
          this.isOpen();
        }
        break;
      case "events": {
        const channel = this.#subscriptions.get(keyOf(message.channel, message.sub));
        if (channel === undefined) break;
        const cursor = message.cursor ?? null;
        if (!channel.take(message.events, cursor)) this.#again(channel);
        else if (cursor !== null) {
          channel.arrived(message.reset === true);
          this.connection.healthy();
        }
        break;
      }
      case "end":
        this.#about(message)?.close();
        break;
      case "reply":
        this.#settle(message.id)?.resolve(message.result);
        break;
      case "error":
        this.#error(message);
        break;
      case "bye":
        this.lost({ retry: message.retry ?? null });
        break;
    }
  }

  #about(message) {
    const key = keyOf(message.channel, message.sub);
    const channel = this.#subscriptions.get(key);
    this.#subscriptions.delete(key);
    return channel;
  }

  #error(message) {
    const { code, status = null, message: text, retry_after: retryAfter = null } = message.error;
    const error = new TokenwireError(code, text, { status, retryAfter });
    if (message.id != null) this.#settle(message.id)?.reject(error);
    else if (message.channel != null) {
      const channel = this.#about(message);
      if (channel !== undefined) this.refused(channel, error);
    } else if (status === 401 && !this.connection.renewable) this.lost({ fatal: error });
  }

  #settle(id) {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    clearTimeout(pending?.timer);
    return pending;
  }

  request(message, timeout = this.connection.options.requestTimeout) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(new TokenwireError("timeout", `no answer to ${message.op} in time`));
      }, Math.max(0, timeout));
      this.#pending.set(id, { resolve, reject, timer });
      this.#socket.send(JSON.stringify({ ...message, id }));
    });
  }

  join(channel) {
    const key = keyOf(channel.name, channel.sub);
    this.#subscriptions.set(key, channel);
    const message = { op: "subscribe", channel: channel.name, sub: channel.sub ?? undefined, ...channel.start() };
    this.request(message).catch((error) => {
      if (this.closed) return;
      if (this.#subscriptions.get(key) === channel) this.#subscriptions.delete(key);
      this.refused(channel, error);
    });
  }

  leave(channel) {
    const key = keyOf(channel.name, channel.sub);
    if (!this.#subscriptions.delete(key) || this.closed) return Promise.resolve();
    const message = { op: "unsubscribe", channel: channel.name, sub: channel.sub ?? undefined };
    return this.request(message).catch(() => {});
  }

  /** Something is missing: subscribe anew. What is still under way of the old subscription is not looked at. */
  #again(channel) {
    channel.gap();
    this.connection.rejoin(channel);
  }

  probe() {
    if (this.opened) this.request({ op: "ping" }, 5000).catch(() => this.lost());
  }

  close() {
    super.close();
    clearTimeout(this.#renewal);
    for (const id of [...this.#pending.keys()]) {
      this.#settle(id).reject(new TokenwireError("network", "the connection was lost"));
    }
    if (this.#socket === null) return;
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close(1000);
  }
}

function keyOf(channel, sub) {
  return JSON.stringify([channel, sub ?? null]);
}

/** A stream of server-sent events for each channel, read with fetch: it can send a token in a header. */
class StreamLine extends Line {
  kind = "sse";
  #streams = new Map();

  open() {
    super.open();
    for (const channel of this.connection.members) this.join(channel);
  }

  join(channel) {
    if (this.#streams.has(channel)) return;
    const control = new AbortController();
    this.#streams.set(channel, control);
    this.#read(channel, control).catch((error) => {
      if (control.signal.aborted) return;
      this.#streams.delete(channel);
      if (error instanceof TokenwireError) this.refused(channel, error);
      else this.lost();
    });
  }

  async #read(channel, control) {
    const query = new URLSearchParams();
    for (const [key, value] of Object.entries(channel.start())) if (value !== undefined) query.set(key, value);
    const path = `channels/${encodeURIComponent(channel.name)}/events?${query}`;
    const answer = await this.connection.fetch(path, { stream: true, signal: control.signal, headers: { accept: "text/event-stream" } });
    if (control.signal.aborted) return;
    if (answer.status === 204) return channel.close();
    this.isOpen();
    const parser = new SseParser((message) => this.#take(channel, control, message));
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (control.signal.aborted) return;
      if (done) break;
      this.received();
      parser.push(value);
      if (control.signal.aborted) return;
    }
    if (channel.only !== null && channel.get(channel.only)?.ended) return channel.close();
    throw new TokenwireError("network", "the stream ended");
  }

  #take(channel, control, message) {
    if (control.signal.aborted) return;
    const value = JSON.parse(message.data);
    if (message.type === "bye") return this.lost({ retry: value.retry ?? null });
    if (message.type === "error") throw new TokenwireError(value.code, value.detail, { status: value.status });
    if (message.type === "ready") {
      if (value.cursor) channel.cursor = value.cursor;
      channel.arrived(value.reset === true);
      this.connection.healthy();
    } else if (message.type === "message" && !channel.take([value], message.id)) {
      channel.gap();
      this.connection.rejoin(channel);
    }
  }

  leave(channel) {
    this.#streams.get(channel)?.abort();
    this.#streams.delete(channel);
  }

  probe() {
    this.connection.fetch("healthz", { timeout: 5000 }).catch((error) => {
      if (error.code === "network") this.lost();
    });
  }

  close() {
    super.close();
    for (const control of this.#streams.values()) control.abort();
    this.#streams.clear();
  }
}

/**
 * Connect to a gateway mounted at `baseUrl`, such as "/stream". Nothing is opened before there is a channel.
 *
 * Options: `token` (a string, or a function that returns one or a promise of one), `transport`,
 * `minDelay`, `maxDelay`, `silence`, `connectTimeout`, `requestTimeout`, `credentials`, `fetch`, `WebSocket`.
 */
export function connect(baseUrl, options) {
  return new Connection(baseUrl, options);
}
