// ai-sdk-message.js: what a page has been sent of a message of the AI SDK. ai-sdk.js loads it.

const LAST_CHUNKS = new Set(["finish", "abort", "error"]);

/**
 * Lets each piece of a message through once. A line that is taken up again brings the message from its beginning,
 * cut into other chunks: texts are told apart by their ids, and of each only what is new is passed on.
 */
export class Message {
  run = null;
  ended = false;
  _started = false;
  _texts = new Map(); // by id: what was sent of each, and the id under which it is open at the page
  _calls = new Map();
  _singles = new Map(); // other chunks, as JSON, and how often each was sent
  _steps = 0;
  _stepOpen = false;
  _stepKeys = new Set();
  // Of the line that is being read:
  _seen = new Map();
  _seenSingles = new Map();
  _seenSteps = 0;
  _held = false; // a step of it has begun that the page may have

  /** The next chunks are those of another line, from the beginning of the message. */
  replay() {
    this._seen.clear();
    this._seenSingles.clear();
    this._seenSteps = 0;
    this._held = false;
  }

  *take(chunk) {
    const { type } = chunk;
    if (type === "start") {
      this.run ??= chunk.messageMetadata?.run ?? null;
      if (!this._started) yield chunk;
      this._started = true;
    } else if (type === "start-step") {
      this._seenSteps++;
      this._held = true;
      if (this._seenSteps > this._steps) yield* this._enter();
    } else if (type === "finish-step") {
      if (!this._held) yield* this._leave();
      this._held = false;
    } else if (/^(text|reasoning)-(start|delta|end)$/.test(type)) {
      yield* this._text(chunk, ...type.split("-"));
    } else if (type.startsWith("tool-input-")) {
      yield* this._input(chunk);
    } else if (LAST_CHUNKS.has(type)) {
      this.ended = true;
      yield chunk;
    } else {
      yield* this._single(chunk);
    }
  }

  // -- steps

  /** Begin the step that was announced, where the page is not in it. */
  *_enter() {
    if (!this._held) return;
    yield* this._leave();
    this._held = false;
    this._stepOpen = true;
    this._steps++;
    this._stepKeys.clear();
    yield { type: "start-step" };
  }

  *_leave() {
    if (!this._stepOpen) return;
    this._stepOpen = false;
    for (const text of this._texts.values()) text.open = null; // the page ends them with their step
    yield { type: "finish-step" };
  }

  /** Something that the page has: if it is of its open step, so is what comes next. */
  _meet(key) {
    if (this._stepOpen && this._stepKeys.has(key)) this._held = false;
  }

  // -- parts

  *_text(chunk, kind, what) {
    const key = chunk.id.replace(/~+$/, ""); // a part that was closed and goes on has these behind its id
    const text = this._texts.get(key);
    if (text === undefined) {
      yield* this._enter();
      this._texts.set(key, { length: 0, open: chunk.id, parts: 1 });
      this._stepKeys.add(key);
      this._seen.set(key, 0);
      yield chunk;
      return;
    }
    this._meet(key);
    if (what === "delta") {
      const seen = (this._seen.get(key) ?? 0) + chunk.delta.length;
      this._seen.set(key, seen);
      const added = seen - text.length;
      if (added <= 0) return;
      text.length = seen;
      if (text.open === null) {
        yield* this._enter();
        text.open = key + "~".repeat(text.parts++);
        this._stepKeys.add(key);
        yield { type: `${kind}-start`, id: text.open };
      }
      yield { ...chunk, id: text.open, delta: chunk.delta.slice(-added) };
    } else if (what === "end" && text.open !== null && (this._seen.get(key) ?? 0) >= text.length) {
      const id = text.open;
      text.open = null;
      yield { ...chunk, id };
    }
  }

  *_input(chunk) {
    const { toolCallId, type } = chunk;
    const key = `tool:${toolCallId}`;
    const call = this._calls.get(key);
    if (call === undefined) {
      yield* this._enter();
      this._calls.set(key, { length: 0, whole: type !== "tool-input-start" });
      this._stepKeys.add(key);
      this._seen.set(key, 0);
      yield chunk;
      return;
    }
    this._meet(key);
    if (type === "tool-input-delta") {
      const seen = (this._seen.get(key) ?? 0) + chunk.inputTextDelta.length;
      this._seen.set(key, seen);
      const added = seen - call.length;
      if (added <= 0) return;
      call.length = seen;
      yield { ...chunk, inputTextDelta: chunk.inputTextDelta.slice(-added) };
    } else if (type !== "tool-input-start" && !call.whole) {
      call.whole = true;
      yield chunk;
    }
  }

  *_single(chunk) {
    const json = JSON.stringify(chunk);
    const sent = this._singles.get(json) ?? 0;
    const seen = (this._seenSingles.get(json) ?? 0) + 1;
    this._seenSingles.set(json, seen);
    if (seen <= sent) {
      this._meet(json);
      return;
    }
    this._singles.set(json, seen);
    // Results and metadata belong to no step.
    if (!chunk.type.startsWith("tool-") && chunk.type !== "message-metadata") {
      yield* this._enter();
      this._stepKeys.add(json);
    }
    yield chunk;
  }
}
