// The page: which screens there are, and what is asked.

import { connect } from "../stream/tokenwire.js";
import { Pane } from "./pane.js";

const PROMPTS = [
  ["A lighthouse story", "Tell me a story about a lighthouse keeper."],
  ["How streaming works", "Explain how token streaming reaches a screen."],
  ["Tea, in many scripts", "Tell me about tea in Japan and China."],
  ["Think first", "Plan six trains to somewhere far away.", { model: "local-reasoner" }],
  ["Call a tool", "What is the weather in Reykjavík?", { tools: true }],
  ["A long essay", "Write a long and detailed essay about the night sky."],
];
const WALL = [
  "Tell me a story about a lighthouse keeper.",
  "Explain how token streaming reaches a screen.",
  "Tell me about tea in Japan and China.",
  "Cook dinner with me: a recipe, please.",
  "What is the strangest bug you ever saw?",
  "Show me the stars of tonight's sky.",
];

const $ = (id) => document.getElementById(id);
const [stage, composer, question, model, send, stop, prompts] = ["stage", "composer", "question", "model", "send", "stop", "prompts"].map($);
const announce = (text) => ($("announcer").textContent = text);
const base = new URL("stream", document.baseURI);

let panes = [];
let connections = [];

function channelName() {
  const name = location.hash.slice(1);
  if (/^[A-Za-z0-9_-]{1,48}$/.test(name)) return name;
  const channel = `chat-${crypto.randomUUID().slice(0, 8)}`;
  history.replaceState(null, "", `#${channel}`);
  return channel;
}

function view() {
  return document.body.dataset.view;
}

function options() {
  // ?transport=sse shows the fallback.
  const transport = new URLSearchParams(location.search).get("transport");
  return transport === "sse" || transport === "websocket" ? { transport } : {};
}

function screen(name, channel, connection, compact) {
  const pane = new Pane({ name, connection, channel, announce, compact });
  pane.onchange = drawComposer;
  stage.append(pane.node);
  panes.push(pane);
}

function build() {
  for (const pane of panes) pane.close();
  for (const connection of connections) connection.close();
  panes = [];
  connections = [];
  const channel = channelName();
  const line = () => {
    const connection = connect(base, options());
    connections.push(connection);
    return connection;
  };
  if (view() === "two") {
    screen("Laptop", channel, line());
    screen("Phone", channel, line());
  } else if (view() === "wall") {
    const shared = line(); // six channels, one socket
    WALL.forEach((_, i) => screen(`Agent ${i + 1}`, `${channel}-${i + 1}`, shared, true));
  } else {
    screen("This screen", channel, line());
  }
  $("second").href = location.href;
  drawComposer();
  drawPrompts();
}

function drawComposer() {
  const busy = panes.some((pane) => pane.streaming.length > 0);
  stop.hidden = !busy;
  send.hidden = busy;
}

async function ask(channel, text, { model: chosen = model.value, tools = false } = {}) {
  const answer = await fetch("questions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ channel, question: text, model: chosen, tools }),
  });
  if (!answer.ok) throw new Error((await answer.text()) || `the agent answered ${answer.status}`);
}

async function submit(text, extra) {
  const asked = text.trim();
  if (asked === "") return question.focus();
  question.value = "";
  grow();
  announce("Asked.");
  try {
    if (view() === "wall") {
      await Promise.all(panes.map((pane, i) => ask(pane.channel.name, `${asked} (version ${i + 1})`, extra)));
    } else {
      await ask(panes[0].channel.name, asked, extra);
    }
    hint();
  } catch (error) {
    question.value ||= asked;
    hint(`That did not work: ${error.message}`);
  }
}

function hint(problem) {
  const element = $("hint");
  element.dataset.normal ??= element.textContent;
  element.textContent = problem ?? element.dataset.normal;
  element.classList.toggle("problem", problem !== undefined);
  if (problem) announce(problem);
}

function offers(extra) {
  const models = [...model.options].map(({ value }) => value);
  return extra?.model && !models.includes(extra.model) ? { ...extra, model: undefined } : extra;
}

function drawPrompts() {
  prompts.replaceChildren();
  const chip = (label, work) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "chip";
    button.textContent = label;
    button.addEventListener("click", work);
    prompts.append(button);
  };
  if (view() === "wall") {
    chip("Start all six", () => {
      panes.forEach((pane, i) => ask(pane.channel.name, WALL[i]).catch((error) => hint(error.message)));
    });
    return;
  }
  for (const [label, text, extra] of PROMPTS) chip(label, () => submit(text, offers(extra)));
}

function grow() {
  question.style.height = "auto";
  question.style.height = `${Math.min(question.scrollHeight, 180)}px`;
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  submit(question.value, /weather/i.test(question.value) ? { tools: true } : undefined);
});
question.addEventListener("input", grow);
question.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    composer.requestSubmit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !stop.hidden) stop.click();
});
stop.addEventListener("click", async () => {
  stop.disabled = true;
  const turns = (view() === "wall" ? panes : panes.slice(0, 1)).flatMap((pane) => pane.streaming);
  await Promise.all(turns.map((turn) => turn.cancel()));
  stop.disabled = false;
  question.focus();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the chat, nothing else
  question.focus();
});
$("fresh").addEventListener("click", () => {
  history.pushState(null, "", location.pathname + location.search);
  build();
  question.focus();
});
for (const radio of document.querySelectorAll("input[name=view]")) {
  radio.addEventListener("change", () => {
    document.body.dataset.view = radio.value;
    build();
  });
}
addEventListener("popstate", build);
$("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  document.documentElement.dataset.theme = dark === "dark" ? "light" : "dark";
});

const config = await fetch("config").then((answer) => answer.json());
for (const name of config.models) model.append(new Option(name, name));
model.hidden = config.models.length < 2;
build();
document.body.dataset.started = "true";
question.focus({ preventScroll: true });
