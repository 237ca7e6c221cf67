// One screen: a channel, and what it shows. Everything here comes from tokenwire.js.

import { clone, element, soon } from "./nodes.js";
import { Turn } from "./turn.js";

const STATUS = {
  idle: "Connecting",
  connecting: "Connecting",
  live: "Live",
  waiting: "Reconnecting",
  paused: "Cut off",
  closed: "Closed",
};
const CUT = 4; // seconds

/** One screen. */
export class Pane {
  /**
   * @param {string[]} steps - what to try, shown while there is nothing else
   */
  constructor({ name, connection, channel, announce, lead, steps = [], compact = false }) {
    this.connection = connection;
    this.announce = announce;
    this.turns = new Map();
    this.results = new Map();
    this.deltas = 0;
    this.received = 0; // characters, by deltas
    this.node = clone("pane-template");
    this.node.classList.toggle("compact", compact);
    this.node.querySelector("h2").textContent = name;
    this.node.setAttribute("aria-label", name);
    const find = (selector) => this.node.querySelector(selector);
    [this.log, this.empty, this.status, this.cut] = [".log", ".empty", ".status-text", ".cut"].map(find);
    [this.count, this.resumed, this.cursor] = [".count", ".resumed", ".cursor"].map(find);
    this.log.setAttribute("aria-label", `Conversation on ${name}`);
    this.empty.querySelector(".lead").textContent = lead;
    const list = this.empty.querySelector("ol");
    list.append(...steps.map((step) => element("li", "", step)));
    list.hidden = steps.length === 0;
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
      this.drawLedger();
    });
    channel.on("tool_result", (event) => {
      this.results.set(event.call_id, event);
      this.turns.get(event.run)?.draw();
    });
    channel.on("data", (event) => {
      if (event.name === "failed") this.turns.get(event.run)?.fail(event.data);
    });
    channel.on("delta", (event) => {
      this.deltas++;
      this.received += event.text.length;
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

  get live() {
    return this.connection.status === "live";
  }

  get streaming() {
    return [...this.turns.values()].filter((turn) => turn.streaming.length > 0);
  }

  clear() {
    for (const turn of this.turns.values()) turn.node.remove();
    this.turns.clear();
    this.results.clear();
    this.deltas = 0;
    this.received = 0; // characters, by deltas
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
    this.status.textContent = STATUS[status];
    if (status === "live" && how) this.status.append(element("span", "how", ` · ${how}`));
    this.drawLedger();
    this.onchange?.();
  }

  /** How the text came: what was there is caught up on at once, the rest arrives by deltas. */
  #drawLedger() {
    const times = (this.resumes ?? 0) + this.connection.reconnects;
    const size = [...this.turns.values()].reduce((total, turn) => total + turn.size, 0);
    const caughtUp = Math.max(0, size - this.received);
    const said = [];
    if (caughtUp) said.push(`caught up on ${caughtUp} characters`);
    if (this.deltas) said.push(`${this.deltas} deltas live`);
    this.count.textContent = said.join(", ") || "nothing received yet";
    this.resumed.textContent = times ? `resumed ${times}×` : "";
    this.cursor.textContent = this.channel.cursor ? `cursor ${this.channel.cursor}` : "";
  }
}
