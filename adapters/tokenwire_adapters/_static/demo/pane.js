// One screen: a channel, and what it shows. Everything here comes from tokenwire.js.

import { LiveMarkdown } from "./markdown.js";

const STATUS = {
  idle: "Connecting",
  connecting: "Connecting",
  live: "Live",
  waiting: "Reconnecting",
  paused: "Cut off",
  closed: "Closed",
};
const STATES = {
  streaming: "Streaming",
  complete: "Complete",
  cancelled: "Stopped",
  failed: "Failed",
  abandoned: "Abandoned: its producer is gone",
};
const CUT = 4; // seconds

function clone(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

function element(tag, className, text) {
  const node = document.createElement(tag);
  node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

/** Run `work` before the next frame, once; also where frames are not drawn. */
function soon(work) {
  let planned = false;
  return () => {
    if (planned) return;
    planned = true;
    const run = () => {
      planned = false;
      work();
    };
    if (document.hidden) setTimeout(run, 100);
    else requestAnimationFrame(run);
  };
}

/** A part of a response: text, reasoning, a tool call. */
class PartView {
  constructor(part, response, pane) {
    this.kind = part.kind;
    this.pane = pane;
    const make = { text: "#text", reasoning: "#reasoning", tool_call: "#tool" };
    if (make[part.kind] === "#reasoning") this.#makeReasoning();
    else if (make[part.kind] === "#tool") this.#makeTool();
    else this.#makeText();
    this.update(part, response, false);
  }

  #makeText() {
    this.node = element("div", `prose kind-${this.kind}`);
    this.markdown = new LiveMarkdown(this.node);
  }

  #makeReasoning() {
    this.node = element("details", "reasoning");
    this.node.open = true;
    this.summary = element("summary", "", "Thinking");
    this.body = element("p", "");
    this.node.append(this.summary, this.body);
    this.summary.addEventListener("click", () => (this.touched = true));
  }

  #makeTool() {
    this.node = element("div", "tool");
    this.name = element("strong", "");
    this.args = element("code", "arguments");
    this.result = element("output", "result");
    this.node.append(this.name, this.args, this.result);
  }

  update(part, response, isLast) {
    const growing = isLast && !response.ended;
    if (this.markdown) {
      this.markdown.update(part.text);
      this.node.classList.toggle("growing", growing);
    } else if (this.body) {
      this.body.textContent = part.text;
      const done = !growing;
      this.summary.textContent = done ? "Thought first" : "Thinking…";
      if (done && !this.touched && this.node.open && !this.folded) {
        this.folded = true;
        this.node.open = false;
      }
    } else {
      const result = response.tool_results.find((one) => one.call_id === part.call_id) ?? this.pane.results.get(part.call_id);
      this.name.textContent = part.name ?? "tool";
      this.args.textContent = part.text;
      this.result.textContent = result ? (result.error ?? JSON.stringify(result.output)) : response.ended ? "" : "…";
      this.node.classList.toggle("done", result !== undefined);
    }
  }
}

/** A question and the responses of its run. */
class Turn {
  constructor(run, pane) {
    this.run = run;
    this.pane = pane;
    this.responses = new Map(); // id -> {response, views, node}
    this.node = clone("turn-template");
    const find = (selector) => this.node.querySelector(selector);
    [this.question, this.answer, this.parts, this.raw] = [".question", ".answer", ".parts", ".raw"].map(find);
    [this.state, this.provider, this.stop, this.source] = [".state", ".provider", ".stop-one", ".source"].map(find);
    this.answer.dataset.run = run;
    this.stop.addEventListener("click", () => this.cancel());
    this.source.addEventListener("click", () => this.toggleSource());
    this.draw = soon(() => this.#draw());
    this.draw();
  }

  get last() {
    return [...this.responses.values()].at(-1)?.response;
  }

  get streaming() {
    return [...this.responses.values()].filter(({ response }) => !response.ended).map(({ response }) => response);
  }

  ask(text) {
    this.question.textContent = text;
    this.question.hidden = false;
  }

  take(response) {
    const known = this.responses.get(response.id);
    if (known) known.response = response;
    else {
      const node = element("div", "response");
      this.responses.set(response.id, { response, views: [], node });
      this.parts.append(node);
    }
    if (response.ended && !known?.ended) {
      this.responses.get(response.id).ended = true;
      this.#askProvider();
    }
    this.draw();
  }

  fail(error) {
    this.failure = error;
    this.draw();
  }

  async cancel() {
    this.stop.disabled = true;
    const asked = this.streaming.map(({ id }) => this.pane.channel.cancel(id, "stopped on the page"));
    await Promise.allSettled(asked);
    this.stop.disabled = false;
  }

  toggleSource() {
    const shown = this.raw.hidden;
    this.raw.hidden = !shown;
    this.parts.hidden = shown;
    this.source.setAttribute("aria-pressed", String(shown));
    this.#draw();
  }

  #draw() {
    const sticky = this.pane.isAtEnd();
    for (const { response, views, node } of this.responses.values()) {
      response.parts.forEach((part, i) => {
        if (!views[i]) {
          views[i] = new PartView(part, response, this.pane);
          node.append(views[i].node);
        }
        if (i >= response.parts.length - 1 || views[i].drawn !== part || part.kind === "tool_call") {
          views[i].update(part, response, i === response.parts.length - 1);
          views[i].drawn = part;
        } else {
          views[i].node.classList.remove("growing");
          if (part.kind === "reasoning") views[i].update(part, response, false);
        }
      });
    }
    if (!this.raw.hidden) this.raw.textContent = this.text;
    this.#drawOutcome();
    if (sticky) this.pane.toEnd();
  }

  get text() {
    return [...this.responses.values()].map(({ response }) => response.text).join("");
  }

  #drawOutcome() {
    const last = this.last;
    const state = this.failure ? "failed" : (last?.state ?? "waiting");
    this.answer.dataset.state = state;
    this.answer.setAttribute("aria-busy", String(state === "streaming" || state === "waiting"));
    this.state.textContent = STATES[state] ?? "Waiting for the model";
    if (last?.error && state !== "complete") this.state.textContent += ` (${last.error})`;
    if (this.failure) this.state.textContent = "The agent failed: is the provider there?";
    this.stop.hidden = this.streaming.length === 0;
    this.source.hidden = this.text === "";
  }

  /** What the local provider says of this run: that is where stopping saves money. */
  async #askProvider() {
    for (let wait = 60; wait < 4000; wait *= 2) {
      try {
        const answer = await fetch(`runs/${encodeURIComponent(this.run)}`);
        if (!answer.ok) return;
        const { completions } = await answer.json();
        if (completions.every(({ outcome }) => outcome !== "running")) return this.#showProvider(completions);
      } catch {
        // The line is down: ask again.
      }
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  #showProvider(completions) {
    const sum = (field) => completions.reduce((total, one) => total + one[field], 0);
    const [sent, planned] = [sum("sent"), sum("planned")];
    const stopped = completions.some(({ outcome }) => outcome === "closed_early");
    this.provider.textContent = stopped
      ? `provider stopped after ${sent} of ${planned} tokens`
      : `provider sent ${sent} tokens`;
    this.provider.dataset.outcome = stopped ? "closed_early" : "complete";
  }
}

/** One screen. */
export class Pane {
  constructor({ name, connection, channel, announce, compact = false }) {
    this.connection = connection;
    this.announce = announce;
    this.turns = new Map();
    this.results = new Map();
    this.deltas = 0;
    this.node = clone("pane-template");
    this.node.classList.toggle("compact", compact);
    this.node.querySelector("h2").textContent = name;
    this.node.setAttribute("aria-label", name);
    const find = (selector) => this.node.querySelector(selector);
    [this.log, this.empty, this.status, this.cut] = [".log", ".empty", ".status-text", ".cut"].map(find);
    [this.count, this.resumed, this.cursor] = [".count", ".resumed", ".cursor"].map(find);
    this.log.setAttribute("aria-label", `Conversation on ${name}`);
    this.cut.addEventListener("click", () => this.#toggleCut());
    this.drawLedger = soon(() => this.#drawLedger());
    this.off = connection.on("status", () => this.#drawStatus());
    this.watch(channel);
    this.#drawStatus();
  }

  watch(name) {
    this.channel?.close();
    this.clear();
    const channel = (this.channel = this.connection.channel(name, { rewind: "all" }));
    channel.on("input", (event) => {
      if (event.name === "question") this.#turn(event.id).ask(String(event.data?.text ?? ""));
    });
    channel.on("response", (response) => {
      this.#turn(response.run ?? response.id).take(response);
      this.onchange?.();
    });
    channel.on("tool_result", (event) => {
      this.results.set(event.call_id, event);
      this.turns.get(event.run)?.draw();
    });
    channel.on("data", (event) => {
      if (event.name === "failed") this.turns.get(event.run)?.fail(event.data);
    });
    channel.on("delta", () => {
      this.deltas++;
      this.drawLedger();
    });
    channel.on("end", (event) => this.announce?.(`Answer ${event.state}.`));
    channel.on("reset", () => this.clear());
    channel.on("ready", () => {
      this.node.dataset.ready = "true";
      this.drawLedger();
    });
    channel.on("error", (error) => {
      this.status.textContent = error.message;
      this.node.dataset.status = "failed";
    });
  }

  get streaming() {
    return [...this.turns.values()].filter((turn) => turn.streaming.length > 0);
  }

  clear() {
    for (const turn of this.turns.values()) turn.node.remove();
    this.turns.clear();
    this.results.clear();
    this.deltas = 0;
    this.empty.hidden = false;
    this.drawLedger();
    this.onchange?.();
  }

  close() {
    clearInterval(this.counting);
    this.off();
    this.channel.close();
    this.node.remove();
  }

  isAtEnd() {
    return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 80;
  }

  toEnd() {
    this.log.scrollTop = this.log.scrollHeight;
  }

  #turn(run) {
    let turn = this.turns.get(run);
    if (turn === undefined) {
      turn = new Turn(run, this);
      this.turns.set(run, turn);
      this.empty.hidden = true;
      this.log.append(turn.node);
      this.toEnd();
    }
    return turn;
  }

  /** Cut this screen's connection, as a tunnel or a lift would, and come back after a while. */
  #toggleCut() {
    if (this.connection.status === "paused") return this.#resume();
    this.connection.pause();
    let left = CUT;
    const tick = () => {
      if (left === 0) return this.#resume();
      this.cut.textContent = `Resume now (${left--})`;
    };
    tick();
    this.counting = setInterval(tick, 1000);
  }

  #resume() {
    clearInterval(this.counting);
    this.cut.textContent = "Cut my connection";
    this.resumes = (this.resumes ?? 0) + 1;
    this.connection.resume();
    this.drawLedger();
  }

  #drawStatus() {
    const { status, transport } = this.connection;
    this.node.dataset.status = status;
    const how = { websocket: "WebSocket", sse: "event stream" }[transport];
    this.status.textContent = STATUS[status] + (status === "live" && how ? ` · ${how}` : "");
    this.drawLedger();
  }

  #drawLedger() {
    const times = (this.resumes ?? 0) + this.connection.reconnects;
    this.count.textContent = `${this.deltas} deltas`;
    this.resumed.textContent = times ? `resumed ${times}×` : "";
    this.cursor.textContent = this.channel.cursor ? `cursor ${this.channel.cursor}` : "";
  }
}
