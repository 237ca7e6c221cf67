// tokenwire.js: watch channels of a tokenwire gateway from a browser, or from Node 20 and newer.
//
//   import { connect } from "/stream/tokenwire.js";
//   const channel = connect("/stream").channel("chat-42", { rewind: "all" });
//   channel.on("response", (response) => render(response));
//
// No dependencies, no build step, nothing persisted; works as one file, and with tokenwire-tabs.js beside it shares one
// connection among the tabs of an origin. The protocol is in docs/gateway.md,
// the folding rules are those of core/tokenwire/response.py: what this file assembles is what the
// Python reducer assembles from the same events.

const ENDED = new Set(["complete", "cancelled", "failed", "abandoned"]);
const PROTOCOL = "tokenwire.v1";
const PROBE_TIMEOUT = 5000;
const DEFAULTS = {
  transport: "auto", // "websocket" or "sse" to allow only that one
  share: true, // with other tabs of this origin; a string: with those that give the same; false: with none
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

  _join(kind) {
    let text = "";
    for (const part of this.parts) if (part.kind === kind) text += part.text;
    return text;
  }

  get text() {
    return this._join("text");
  }

  get reasoning() {
    return this._join("reasoning");
  }

  get refusal() {
    return this._join("refusal");
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
    provider_executed: part.provider_executed === true, // the model's provider runs the tool itself
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
  _head = {};
  _parts = [];
  _lengths = []; // of each part, in code points: counted once, as the text comes
  _results = new Map();
  _response = null;

  constructor(id) {
    this.id = id;
    this.state = null;
    this.length = 0;
  }

  get response() {
    if (this._response === null) {
      if (this.state === null) throw new GapError(this.id, `response ${this.id} has not started`);
      this._response = new Response({
        ...this._head,
        id: this.id,
        state: this.state,
        parts: this._parts.slice(),
        tool_results: [...this._results.values()],
      });
    }
    return this._response;
  }

  /** Fold one event in; say whether it changed anything. Throws `GapError`, and then nothing has changed. */
  apply(event, channel = "") {
    const step = STEPS[event.type];
    const changed = step === undefined ? false : step.call(this, event, channel);
    if (changed) this._response = null;
    return changed;
  }

  _grow(part) {
    if (this.state === null) throw new GapError(this.id, `response ${this.id} has not started`);
    if (ENDED.has(this.state)) return false;
    if (part > this._parts.length) {
      throw new GapError(this.id, `response ${this.id} lacks what precedes part ${part}`);
    }
    return true;
  }

  start(event, channel) {
    if (this.state !== null) return false;
    this.state = "streaming";
    this._head = {
      channel: event.channel || channel,
      run: event.run,
      metadata: event.metadata,
      started_at: event.ts,
    };
    return true;
  }

  part(event) {
    if (!this._grow(event.part) || event.part < this._parts.length) return false;
    this._parts.push(makePart({ ...event, text: "" }));
    this._lengths.push(0);
    return true;
  }

  delta(event) {
    const at = event.part;
    if (!this._grow(at)) return false;
    const fresh = at === this._parts.length;
    const have = fresh ? 0 : this._lengths[at];
    if (event.offset > have) {
      throw new GapError(this.id, `response ${this.id} lacks text before ${event.offset}`);
    }
    const seen = have - event.offset;
    const text = seen === 0 ? event.text : event.text.slice(indexOf(event.text, seen));
    if (fresh) {
      this._parts.push(makePart({ kind: event.kind }));
      this._lengths.push(0);
    } else if (text === "") {
      return false;
    }
    const grown = codePoints(text);
    this._parts[at] = { ...this._parts[at], text: this._parts[at].text + text };
    this._lengths[at] += grown;
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
      const here = [Number(ENDED.has(this.state)), this._parts.length, this.length];
      if (!isAfter(ahead, here)) {
        const missing = results.filter((result) => !this._results.has(result.call_id));
        for (const result of missing) this._results.set(result.call_id, result);
        return missing.length > 0;
      }
    }
    this.state = state;
    this.length = length;
    this._head = { ...response };
    this._parts = parts.map(makePart);
    this._lengths = lengths;
    for (const result of results) this._results.set(result.call_id, result);
    return true;
  }

  end(event) {
    if (this.state === null) throw new GapError(this.id, `response ${this.id} has not started`);
    if (ENDED.has(this.state)) return false;
    this.state = event.state;
    Object.assign(this._head, {
      finish_reason: event.finish_reason,
      usage: event.usage,
      error: event.error,
      ended_at: event.ts,
    });
    return true;
  }

  toolResult(event) {
    if (this.state === null || this._results.has(event.call_id)) return false;
    this._results.set(event.call_id, makeResult(event));
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
  _assemblers = new Map();

  /** Fold `event` in; return its response as it is now, null where it has none. */
  apply(event) {
    return this.change(event)?.response ?? null;
  }

  /** The same, but return the assembler and only where the event changed it. */
  change(event, channel = "") {
    const id = responseIdOf(event);
    if (id === null) return null;
    let assembler = this._assemblers.get(id);
    if (assembler !== undefined) {
      this.changed = assembler.apply(event, channel);
      return assembler;
    }
    assembler = new Assembler(id);
    this.changed = assembler.apply(event, channel);
    if (assembler.state === null) return null; // a cancel or tool result of a response not seen
    this._assemblers.set(id, assembler);
    return assembler;
  }

  get(id) {
    return this._assemblers.get(id)?.response;
  }

  has(id) {
    return this._assemblers.has(id);
  }

  get size() {
    return this._assemblers.size;
  }

  clear() {
    this._assemblers.clear();
  }

  *[Symbol.iterator]() {
    for (const assembler of this._assemblers.values()) yield assembler.response;
  }
}

// -- events of our own

class Emitter {
  _listeners = new Map();

  /** Vue's mark of what is not to be wrapped in a proxy (`markRaw`): a proxy is not the object that sockets call. */
  get __v_skip() {
    return true;
  }

  /** Call `listener` at each `type`; returns a function that ends it. */
  on(type, listener) {
    let listeners = this._listeners.get(type);
    if (listeners === undefined) this._listeners.set(type, (listeners = new Set()));
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
    for (const { listener } of [...(this._listeners.get(type) ?? [])]) {
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
  _rest = "";
  _data = [];
  _type = "";
  _id = null;
  _skipLf = false;

  constructor(onEvent) {
    this.onEvent = onEvent;
    this.lastId = null;
  }

  push(text) {
    if (this._skipLf && text.startsWith("\n")) text = text.slice(1);
    this._skipLf = false;
    if (text === "") return;
    const all = this._rest + text;
    let from = 0;
    for (let i = this._rest.length; i < all.length; i++) {
      const code = all.charCodeAt(i);
      if (code !== 10 && code !== 13) continue;
      this._line(all.slice(from, i));
      if (code === 13) {
        if (i + 1 === all.length) this._skipLf = true;
        else if (all.charCodeAt(i + 1) === 10) i++;
      }
      from = i + 1;
    }
    this._rest = all.slice(from);
  }

  _line(line) {
    if (line === "") return this._dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (field === "data") this._data.push(value);
    else if (field === "event") this._type = value;
    else if (field === "id" && !value.includes("\0")) this._id = value;
  }

  _dispatch() {
    if (this._id !== null) this.lastId = this._id;
    if (this._data.length > 0) {
      this.onEvent({ type: this._type || "message", data: this._data.join("\n"), id: this._id });
    }
    this._data = [];
    this._type = "";
    this._id = null;
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
  connection;
  _transcript = new Transcript();
  _known;
  _gapAt; // the cursor at which a gap was met last
  _mentioned = null; // ids of responses that events named since the last join; null once joined

  constructor(connection, name, options, sub) {
    super();
    this.name = name;
    this.cursor = options.after ?? null;
    this.ready = false;
    this.closed = false;
    this.error = null;
    this.version = 0; // grows with every change of `responses`
    this.sub = sub;
    this.only = options.response ?? null;
    this.rewind = options.rewind == null ? null : String(options.rewind);
    this._known = new Set(options.known ?? []);
    this.connection = connection;
  }

  /** The responses seen, in the order in which they began, by id. */
  get responses() {
    return [...this._transcript];
  }

  get(id) {
    return this._transcript.get(id);
  }

  /** The connection's status: "connecting", "live", "waiting", "paused" or "closed". */
  get status() {
    return this.closed ? "closed" : this.connection.status;
  }

  cancel(responseId, reason) {
    return this.connection.request("cancel", this.name, { response: responseId, reason });
  }

  /** Send a message to the agent. An id of your own makes a retry of yours harmless. */
  send(name, data = null, { id = newId() } = {}) {
    return this.connection.request("input", this.name, { name, data, input_id: id });
  }

  /** A page of responses, newest first: `{items, next}`; give `next` as `before` to read on. */
  async history({ limit, before } = {}) {
    const page = await this.connection.request("history", this.name, { limit, before });
    return { items: page.items.map((item) => new Response(readResponse(item))), next: page.next };
  }

  close() {
    if (this.closed) return;
    this.closed = true;
    this.emit("close");
    this.connection.leave(this);
  }

  // -- what the connection calls

  /** Take a batch; false where something is missing, and the channel has to be joined again. */
  take(events, cursor) {
    const changed = new Map();
    let whole = true;
    for (const event of events) {
      const id = responseIdOf(event);
      if (id !== null && this._known.has(id)) continue;
      this._mentioned?.add(id);
      try {
        const assembler = this._transcript.change(event, this.name);
        if (assembler !== null && this._transcript.changed) {
          changed.set(assembler.id, assembler);
          this.version++;
        }
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
    const mentioned = this._mentioned;
    if (mentioned !== null) {
      this._mentioned = null;
      this._gapAt = undefined;
      const doubtful = this.responses.filter(({ id, ended }) => !ended && !mentioned.has(id));
      if (reset && doubtful.length > 0) this._verify(doubtful);
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
  async _verify(doubtful) {
    let items = [];
    try {
      ({ items } = await this.history({ limit: 100 }));
    } catch (error) {
      if (error.status !== 401 && error.status !== 403) return; // else it is not ours to read
    }
    if (this.closed || doubtful.every(({ id }) => items.some((item) => item.id === id))) return;
    this.startOver("lost");
    this.connection.rejoin(this);
  }

  /** What to subscribe with. */
  start() {
    this._mentioned = new Set();
    const from = this.cursor !== null ? { after: this.cursor } : { rewind: this.rewind ?? undefined };
    return { ...from, response: this.only ?? undefined };
  }

  /** A hole: read again from the last cursor; where that does not help, from the beginning. */
  gap() {
    if (this._gapAt === this.cursor) this.startOver("gap");
    else this._gapAt = this.cursor;
  }

  /** The log that we were in is gone, and what we have of it with it. */
  startOver(reason) {
    this.cursor = null;
    this.ready = false;
    this._transcript.clear();
    this.version++;
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
  // Not randomUUID, which pages on plain HTTP do not have.
  return `i-${[...crypto.getRandomValues(new Uint32Array(4))].map((word) => word.toString(36)).join("")}`;
}

// -- a connection

/**
 * Many channels over one socket; where sockets do not work, over event streams.
 *
 * Events: "status" (status), "error" (TokenwireError).
 */
export class Connection extends Emitter {
  _options;
  _given;
  _base;
  _channels = new Set();
  _line = null;
  _timer = null;
  _attempt = 0;
  _failures = 0; // attempts in a row that did not open a line
  _socketWorked = false;
  _unlisten = null;
  _away = false; // the user has left the page, and may come back to it
  _tabs; // what shares the line with other tabs: undefined before it is looked for, false while it is loaded

  constructor(baseUrl, options = {}) {
    super();
    const base = new URL(baseUrl, globalThis.location?.href);
    if (!base.pathname.endsWith("/")) base.pathname += "/";
    base.search = base.hash = "";
    this._base = base;
    this._given = options;
    this._options = { ...DEFAULTS, fetch: globalThis.fetch?.bind(globalThis), WebSocket: globalThis.WebSocket, ...options };
    const { transport, WebSocket } = this._options;
    if (!["auto", "websocket", "sse"].includes(transport)) throw new TypeError(`no such transport: ${transport}`);
    if (transport === "websocket" && typeof WebSocket !== "function") {
      throw new TypeError("this environment has no WebSocket: give one as the option WebSocket, or another transport");
    }
    this.status = "idle";
    this.reconnects = 0;
  }

  /** What carries events now: "websocket", "sse" or null. */
  get transport() {
    return this._line?.opened ? this._line.kind : null;
  }

  /** Watch a channel. `{after, rewind, response, known}` as in docs/javascript.md. */
  channel(name, options = {}) {
    if (this.status === "closed") throw new TokenwireError("closed", "this connection is closed");
    if (typeof name !== "string" || name === "") throw new TypeError("a channel has a name");
    const taken = new Set([...this._channels].filter((one) => one.name === name).map((one) => one.sub));
    let sub = null;
    for (let n = 2; taken.has(sub); n++) sub = `s${n}`;
    const channel = new Channel(this, name, options, sub);
    this._channels.add(channel);
    this._listen();
    // After the caller had the time to add listeners.
    queueMicrotask(() => {
      if (channel.closed) return;
      if (this._line?.opened) this._line.join(channel);
      else this._wake();
    });
    return channel;
  }

  /** Let go of the line until `resume`; channels stay as they are. */
  pause() {
    if (this.status === "closed") return;
    this._drop();
    this._set("paused");
  }

  resume() {
    if (this.status !== "paused") return;
    this._attempt = 0;
    this._set("idle");
    this._wake();
  }

  close() {
    if (this.status === "closed") return;
    this._drop();
    this._unlisten?.();
    for (const channel of [...this._channels]) channel.close();
    this._set("closed");
  }

  // -- what channels call

  leave(channel) {
    this._channels.delete(channel);
    this._line?.leave(channel);
    if (this._channels.size > 0 || this.status === "closed" || this.status === "paused") return;
    this._drop();
    this._unlisten?.();
    this._unlisten = null;
    this._set("idle");
  }

  rejoin(channel) {
    const line = this._line;
    Promise.resolve(line?.leave(channel)).then(() => {
      if (line === this._line && !channel.closed) line?.join(channel);
    });
  }

  /** Ask the gateway for something, over the socket or HTTP; safe to repeat, so repeated where the network fails. */
  async request(op, channel, fields) {
    const { requestTimeout } = this._options;
    const deadline = Date.now() + requestTimeout;
    for (let attempt = 0; ; attempt++) {
      if (this.status === "closed") throw new TokenwireError("closed", "this connection is closed");
      const line = this._line;
      const left = deadline - Date.now();
      try {
        if (line?.kind === "websocket" && line.opened) return await line.request({ op, channel, ...fields }, left);
        return await this._post(op, channel, fields, left);
      } catch (error) {
        const transient = error instanceof TokenwireError && (error.code === "network" || error.status === 429 || error.status === 503);
        const wait = error.retryAfter != null ? error.retryAfter * 1000 : this._backoff(attempt);
        if (!transient || Date.now() + wait > deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    }
  }

  async _post(op, channel, fields, timeout) {
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
    return this._options;
  }

  url(path, scheme) {
    const url = new URL(path, this._base);
    if (scheme === "ws") url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    return url;
  }

  async token() {
    const { token } = this._options;
    return typeof token === "function" ? await token() : (token ?? null);
  }

  get members() {
    return [...this._channels];
  }

  get renewable() {
    return typeof this._options.token === "function";
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
      const { credentials } = this._options;
      const answer = await this._options.fetch(this.url(path), { method, body, headers, signal: control.signal, cache: "no-store", ...(credentials ? { credentials } : {}) });
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
    if (line !== this._line) return;
    if (line.kind === "websocket") {
      this._socketWorked = true;
      this._failures = 0;
    }
    this._set("live");
    for (const channel of this._channels) line.join(channel);
  }

  /** The line works: the next reconnect need not wait. */
  healthy() {
    this._attempt = 0;
  }

  /** Milliseconds to wait after a refusal: what the gateway asked for (in seconds), never all at once. */
  pace(retryAfter, attempt) {
    return Math.max((retryAfter ?? 0) * 1000 * (1 + Math.random() / 2), this._backoff(attempt));
  }

  /** A line is gone. `retry`: milliseconds that the server asks to wait; `fatal`: an error that repeating will not mend. */
  lostBy(line, { retry = null, fatal = null, code = null } = {}) {
    if (line !== this._line) return;
    const opened = line.opened;
    this._drop();
    if (fatal !== null) {
      this.emit("error", fatal);
      for (const channel of [...this._channels]) channel.fail(fatal);
      return;
    }
    if (opened) {
      this.reconnects++;
      if (this._socketWorked) this._failures = 0;
    } else {
      this._failures++;
    }
    if (this._channels.size === 0) return this._set("idle");
    const first = !opened && !this._socketWorked && this._failures === 1 && line.kind === "websocket" && code !== 4401;
    const wait = first ? 0 : Math.max(retry ?? 0, retry === null ? this._backoff(this._attempt) : 0);
    this._attempt++;
    this._set("waiting");
    this._timer = setTimeout(() => {
      this._timer = null;
      this._wake();
    }, wait);
  }

  // -- within

  _backoff(attempt) {
    const { minDelay, maxDelay } = this._options;
    return Math.min(maxDelay, minDelay * 2 ** Math.min(attempt, 20)) * (0.5 + Math.random() / 2);
  }

  _choose() {
    const { transport, WebSocket } = this._options;
    if (transport !== "auto") return transport;
    if (typeof WebSocket !== "function") return "sse";
    const f = this._failures;
    return (this._socketWorked ? f % 3 === 2 : f % 4 !== 0) ? "sse" : "websocket";
  }

  _wake() {
    if (this._line !== null || this._timer !== null || this._channels.size === 0) return;
    if (this._away || this.status === "paused" || this.status === "closed") return;
    if (this._tabs === undefined) this._findTabs();
    if (this._tabs === false) return;
    this._set("connecting");
    const kind = this._choose();
    const line = this._tabs?.line(kind) ?? (kind === "websocket" ? new SocketLine(this) : new StreamLine(this));
    this._line = line;
    line.open(this.members[0].name);
  }

  /** Tabs of an origin share one line, where the browser can lock: then this loads what it takes. */
  _findTabs() {
    const { share, fetch, WebSocket } = this._given;
    const can = globalThis.document && globalThis.navigator?.locks && globalThis.BroadcastChannel;
    this._tabs = can && share !== false && !fetch && !WebSocket ? false : null;
    if (this._tabs === null) return;
    import("./tokenwire-tabs.js")
      .then(({ share }) => share(this, { Line, SocketLine, SseParser }))
      .catch(() => null) // a copy of this file alone
      .then((tabs) => {
        this._tabs = tabs;
        this._wake();
      });
  }

  /** Go on with another line. */
  switchLine() {
    this._drop();
    this._wake();
  }

  _drop() {
    clearTimeout(this._timer);
    this._timer = null;
    const line = this._line;
    this._line = null;
    line?.close();
  }

  _set(status) {
    if (this.status === status || this.status === "closed") return;
    this.status = status;
    this.emit("status", status);
  }

  /** The browser's hints are hints: a page of this machine works without any network. */
  _listen() {
    if (this._unlisten !== null || typeof globalThis.addEventListener !== "function") return;
    const hint = () => {
      if (globalThis.document?.visibilityState === "hidden") return;
      if (this._timer !== null && globalThis.navigator?.onLine !== false) {
        clearTimeout(this._timer);
        this._timer = null;
        this._wake();
      } else {
        this._line?.probe();
      }
    };
    const places = [
      [globalThis, "online", hint],
      [globalThis, "offline", hint],
      [globalThis, "pagehide", () => this._leavePage()],
      [globalThis, "pageshow", ({ persisted }) => (persisted ? this._returnToPage() : hint())],
    ];
    if (globalThis.document) places.push([globalThis.document, "visibilitychange", hint]);
    for (const [target, type, listener] of places) target.addEventListener(type, listener);
    this._unlisten = () => {
      for (const [target, type, listener] of places) target.removeEventListener(type, listener);
      this._away = false;
    };
  }

  /** The user leaves the page. The browser may keep it, frozen, to show it again: only if it holds no line and no lock. */
  _leavePage() {
    this._away = true;
    this._drop();
    if (this.status === "connecting" || this.status === "live") this._set("waiting");
    if (this._tabs) this._tabs.leave();
  }

  _returnToPage() {
    this._away = false;
    this._attempt = 0;
    this._wake();
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
  _throttled = new Map(); // channel -> the timer of its next join, and how many were refused in a row
  _receivedAt = Date.now();
  _watchdog = null;

  constructor(connection) {
    this.connection = connection;
  }

  received() {
    this._receivedAt = Date.now();
  }

  open() {
    const { silence, connectTimeout } = this.connection.options;
    const opening = Date.now();
    this._watchdog = setInterval(() => {
      const limit = this.opened ? silence : connectTimeout;
      if (Date.now() - (this.opened ? this._receivedAt : opening) > limit) this.lost();
    }, Math.min(1000, silence / 3));
  }

  isOpen() {
    if (this.opened || this.closed) return;
    this.opened = true;
    this.received();
    this.connection.openedBy(this);
  }

  /**
   * Find out whether the network is there. A request that only waits says nothing: the browser may have
   * all its connections in use. What still brings something works, though that may have been under way: look again, then.
   */
  probe(again = 3) {
    const since = Date.now();
    this.connection.fetch("healthz", { timeout: PROBE_TIMEOUT }).catch(({ code, cause }) => {
      if (code === "network" && cause?.name !== "AbortError") setTimeout(() => this.lostSince(since, again), PROBE_TIMEOUT / 5);
    });
  }

  lostSince(time, again = 0) {
    if (this._receivedAt < time) this.lost();
    else if (again > 0 && !this.closed) this.probe(again - 1);
  }

  lost(how) {
    if (!this.closed) this.connection.lostBy(this, how);
  }

  close() {
    this.closed = true;
    clearInterval(this._watchdog);
    for (const { timer } of this._throttled.values()) clearTimeout(timer);
  }

  /** A subscription was refused or ended: begin again, later, or never. */
  refused(channel, error) {
    if (this.closed || channel.closed) return;
    if (error.code === "bad_cursor" && channel.cursor !== null) {
      channel.startOver("bad_cursor");
      this.join(channel);
    } else if (error.status === 401) {
      this.lost(this.connection.renewable ? {} : { fatal: error });
    } else if (error.status === 429) {
      this.throttled(channel, error);
    } else if (error.status === null || error.status >= 500 || error.status === 408) {
      this.lost({ retry: error.retryAfter === null ? null : error.retryAfter * 1000 });
    } else {
      channel.fail(error);
    }
  }

  /** The gateway has too much to do for this client: the line is fine, so join again on it, later. */
  throttled(channel, error) {
    const { refusals = 0 } = this._throttled.get(channel) ?? {};
    const timer = setTimeout(() => {
      if (!channel.closed) this.join(channel);
    }, this.connection.pace(error.retryAfter, refusals));
    this._throttled.set(channel, { timer, refusals: refusals + 1 });
  }
}

class SocketLine extends Line {
  kind = "websocket";
  _socket = null;
  _pending = new Map(); // what was sent, by id
  _queue = []; // what waits until fewer are pending: a gateway works on so many requests at a time
  _limit = 16;
  _next = 1;
  _subscriptions = new Map(); // key -> channel
  _joined = new Set(); // keys of what the gateway has subscribed
  _turns = new Map(); // key -> promise of the last thing to do for it
  _renewal = null;

  async open(first) {
    super.open();
    const { WebSocket } = this.connection.options;
    const url = this.connection.url(`channels/${encodeURIComponent(first)}/ws`, "ws");
    try {
      this._socket = new WebSocket(url.href, [PROTOCOL]);
    } catch {
      return this.lost();
    }
    this._socket.onmessage = (message) => {
      this.received();
      if (this.closed) return;
      try {
        this._take(JSON.parse(message.data));
      } catch (error) {
        this.lost();
        throw error;
      }
    };
    this._socket.onclose = ({ code }) => this._closedWith(code);
    this._socket.onerror = () => setTimeout(() => this.lost(), 50); // where no close follows
  }

  _closedWith(code) {
    const about = { code };
    if (code === 4403) about.fatal = new TokenwireError("forbidden", "the gateway does not allow this", { status: 403 });
    if (code === 4400) about.fatal = new TokenwireError("bad_request", "the gateway did not understand this client", { status: 400 });
    if (code === 4401 && !this.connection.renewable) {
      about.fatal = new TokenwireError("unauthorized", "the gateway wants a valid token", { status: 401 });
    }
    this.lost(about);
  }

  async _auth() {
    const token = await this.connection.token();
    if (token === null) throw new TokenwireError("unauthorized", "the gateway wants a token", { status: 401 });
    this._renewLater((await this.request({ op: "auth", token })).expires);
  }

  _renewLater(expires) {
    if (expires === null || !this.connection.renewable || this.closed) return;
    const left = expires - Date.now();
    const wait = Math.max(1000, Math.min(left - Math.min(30_000, left / 5), 2 ** 31 - 1));
    this._renewal = setTimeout(() => this._auth().catch(() => this.lost()), wait);
  }

  _take(message) {
    switch (message.op) {
      case "hello":
        this._limit = message.limits?.pending ?? this._limit;
        if (message.auth === "required") {
          this._auth().then(
            () => this.isOpen(),
            (error) => this.lost(error.status === 401 && !this.connection.renewable ? { fatal: error } : {}),
          );
        } else {
          this.isOpen();
        }
        break;
      case "events": {
        const channel = this._subscriptions.get(this.keyOf({ name: message.channel, sub: message.sub }));
        if (channel === undefined) break;
        const cursor = message.cursor ?? null;
        if (!channel.take(message.events, cursor)) this._again(channel);
        else if (cursor !== null) {
          channel.arrived(message.reset === true);
          this.connection.healthy();
        }
        break;
      }
      case "end":
        this._about(message)?.close();
        break;
      case "reply":
        this._settle(message.id)?.resolve(message.result);
        break;
      case "error":
        this._error(message);
        break;
      case "bye":
        this.lost({ retry: message.retry ?? null });
        break;
    }
  }

  _about(message) {
    const key = this.keyOf({ name: message.channel, sub: message.sub });
    const channel = this._subscriptions.get(key);
    this._subscriptions.delete(key);
    this._joined.delete(key);
    return channel;
  }

  _error(message) {
    const { code, status = null, message: text, retry_after: retryAfter = null } = message.error;
    const error = new TokenwireError(code, text, { status, retryAfter });
    if (message.id != null) this._settle(message.id)?.reject(error);
    else if (message.channel != null) {
      const channel = this._about(message);
      if (channel !== undefined) this.refused(channel, error);
    } else if (status === 401 && !this.connection.renewable) this.lost({ fatal: error });
  }

  _settle(id) {
    const pending = this._pending.get(id);
    this._pending.delete(id);
    clearTimeout(pending?.timer);
    this._send();
    return pending;
  }

  request(message, timeout = this.connection.options.requestTimeout) {
    const id = this._next++;
    return new Promise((resolve, reject) => {
      // Joins wait for everything else: a cancel is urgent, however many channels are joined.
      const joins = this._queue.findIndex((waiting) => waiting.message.op === "subscribe");
      const at = message.op === "subscribe" || joins < 0 ? this._queue.length : joins;
      this._queue.splice(at, 0, { id, message, timeout, resolve, reject });
      this._send();
    });
  }

  _send() {
    while (!this.closed && this._queue.length > 0 && this._pending.size < this._limit) {
      const request = this._queue.shift();
      const { id, message, timeout, reject } = request;
      request.timer = setTimeout(() => {
        this._settle(id);
        reject(new TokenwireError("timeout", `no answer to ${message.op} in time`));
      }, Math.max(0, timeout));
      this._pending.set(id, request);
      this._socket.send(JSON.stringify({ ...message, id }));
    }
  }

  join(channel) {
    const key = this.keyOf(channel);
    this._inTurn(key, async () => {
      if (this.closed || channel.closed) return;
      this._subscriptions.set(key, channel);
      const message = { op: "subscribe", channel: channel.name, sub: channel.sub ?? undefined, ...channel.start() };
      try {
        const { user } = await this.request(message);
        this._joined.add(key);
        this._throttled.delete(channel);
        channel.joinedAs?.(user);
      } catch (error) {
        if (this.closed || this._subscriptions.get(key) !== channel) return;
        this._subscriptions.delete(key);
        this.refused(channel, error);
      }
    });
  }

  leave(channel) {
    const key = this.keyOf(channel);
    if (this._subscriptions.get(key) === channel) this._subscriptions.delete(key);
    return this._inTurn(key, async () => {
      if (this.closed || !this._joined.delete(key)) return;
      const message = { op: "unsubscribe", channel: channel.name, sub: channel.sub ?? undefined };
      await this.request(message).catch(() => {});
    });
  }

  /** Do `work` when all before it for the same subscription is done: a gateway works on several requests at a time. */
  _inTurn(key, work) {
    const turn = (this._turns.get(key) ?? Promise.resolve()).then(work).finally(() => {
      if (this._turns.get(key) === turn) this._turns.delete(key);
    });
    this._turns.set(key, turn);
    return turn;
  }

  /** Something is missing: subscribe anew. What is still under way of the old subscription is not looked at. */
  _again(channel) {
    channel.gap();
    this.connection.rejoin(channel);
  }

  keyOf({ name, sub }) {
    return JSON.stringify([name, sub ?? null]);
  }

  probe(again = 3) {
    const since = Date.now();
    if (this.opened) this.request({ op: "ping" }, PROBE_TIMEOUT).catch(() => this.lostSince(since, again));
  }

  close() {
    super.close();
    clearTimeout(this._renewal);
    const unanswered = [...this._pending.values(), ...this._queue];
    this._pending.clear();
    this._queue = [];
    for (const { timer, reject } of unanswered) {
      clearTimeout(timer);
      reject(new TokenwireError("network", "the connection was lost"));
    }
    if (this._socket === null) return;
    this._socket.onmessage = this._socket.onclose = null;
    this._socket.close(1000);
  }
}

/** A stream of server-sent events for each channel, read with fetch: it can send a token in a header. */
class StreamLine extends Line {
  kind = "sse";
  _streams = new Map();

  open() {
    super.open();
    for (const channel of this.connection.members) this.join(channel);
  }

  join(channel) {
    if (this._streams.has(channel)) return;
    const control = new AbortController();
    this._streams.set(channel, control);
    this._read(channel, control).catch((error) => {
      if (control.signal.aborted) return;
      this._streams.delete(channel);
      if (error instanceof TokenwireError) this.refused(channel, error);
      else this.lost();
    });
  }

  async _read(channel, control) {
    const query = new URLSearchParams();
    for (const [key, value] of Object.entries(channel.start())) if (value !== undefined) query.set(key, value);
    const path = `channels/${encodeURIComponent(channel.name)}/events?${query}`;
    const answer = await this.connection.fetch(path, { stream: true, signal: control.signal, headers: { accept: "text/event-stream" } });
    if (control.signal.aborted) return;
    if (answer.status === 204) return channel.close();
    this.isOpen();
    this._throttled.delete(channel);
    channel.joinedAs?.(answer.headers.get("tokenwire-user"));
    if (control.signal.aborted) return;
    const parser = new SseParser((message) => this._take(channel, control, message));
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

  _take(channel, control, message) {
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
    this._streams.get(channel)?.abort();
    this._streams.delete(channel);
  }

  close() {
    super.close();
    for (const control of this._streams.values()) control.abort();
    this._streams.clear();
  }
}

/**
 * Connect to a gateway mounted at `baseUrl`, such as "/stream". Nothing is opened before there is a channel.
 *
 * Options: `token` (a string, or a function that returns one or a promise of one), `transport`,
 * `share`, `minDelay`, `maxDelay`, `silence`, `connectTimeout`, `requestTimeout`, `credentials`, `fetch`, `WebSocket`.
 */
export function connect(baseUrl, options) {
  return new Connection(baseUrl, options);
}
