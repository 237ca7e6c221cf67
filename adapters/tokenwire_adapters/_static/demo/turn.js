// A question and its answer, as one screen shows them.

import { clone, element, soon } from "./nodes.js";
import { LiveMarkdown } from "./markdown.js";

const STATES = {
  streaming: "Streaming",
  complete: "Complete",
  cancelled: "Stopped",
  failed: "Failed",
  abandoned: "Abandoned: its producer is gone",
};

/** A part of a response: text, reasoning, a tool call. */
class PartView {
  constructor(part, pane) {
    this.kind = part.kind;
    this.pane = pane;
    const make = { text: "#text", reasoning: "#reasoning", tool_call: "#tool" };
    if (make[part.kind] === "#reasoning") this.#makeReasoning();
    else if (make[part.kind] === "#tool") this.#makeTool();
    else this.#makeText();
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
export class Turn {
  constructor(run, pane) {
    this.run = run;
    this.pane = pane;
    this.responses = new Map(); // id -> {response, views, node}
    this.node = clone("turn-template");
    const find = (selector) => this.node.querySelector(selector);
    [this.question, this.answer, this.parts, this.raw] = [".question", ".answer", ".parts", ".raw"].map(find);
    [this.state, this.provider, this.source] = [".state", ".provider", ".source"].map(find);
    this.answer.dataset.run = run;
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

  cancel() {
    const asked = this.streaming.map(({ id }) => this.pane.channel.cancel(id, "stopped on the page"));
    return Promise.allSettled(asked);
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
          views[i] = new PartView(part, this.pane);
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

  /** How many characters are there, of all parts. */
  get size() {
    const parts = [...this.responses.values()].flatMap(({ response }) => response.parts);
    return parts.reduce((total, part) => total + part.text.length, 0);
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
    if (last?.error && (state === "failed" || state === "abandoned")) this.state.textContent += ` (${last.error})`;
    if (this.failure) this.state.textContent = "The agent failed: is the provider there?";
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
    const sticky = this.pane.isAtEnd();
    this.provider.textContent = stopped
      ? `provider stopped after ${sent} of ${planned} tokens`
      : `provider sent ${sent} tokens`;
    this.provider.dataset.outcome = stopped ? "closed_early" : "complete";
    if (sticky) this.pane.toEnd();
  }
}
