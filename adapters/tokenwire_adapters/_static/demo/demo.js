// The page: which screens there are, and what is asked.

import { connect } from "../stream/tokenwire.js";
import { address } from "./address.js";
import { showCode } from "./code.js";
import { Pane } from "./pane.js";

const PROMPTS = [
  ["A story", "Tell me a story about a lighthouse keeper."],
  ["How it works", "Explain how token streaming reaches a screen."],
  ["Tea", "Tell me about tea in Japan and China."],
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
// What the visitor sees, in a line.
const LEADS = {
  one: "An agent at work, and you watch. Reload while it writes: it goes on without you, and nothing is missing.",
  two: "One agent, watched by a laptop and a phone. Each token reaches both; cut one off, and it catches up.",
  wall: "Six agents at work at once, over one connection.",
};
const STEPS = {
  one: [
    "Pick a question below.",
    "Reload while it answers, or cut the connection: it goes on where it was.",
    "Open a second tab. Press Stop in either one.",
  ],
  two: [
    "Pick a question below: both screens show it.",
    "Cut one of them off, or reload the page: it goes on where it was.",
    "Open a second tab. Press Stop in either one.",
  ],
};

const $ = (id) => document.getElementById(id);
const [stage, composer, question, model, send, stop, prompts] = ["stage", "composer", "question", "model", "send", "stop", "prompts"].map($);
const announce = (text) => ($("announcer").textContent = text);
const base = new URL("stream", document.baseURI);

let panes = [];
let connections = [];
let shown; // the view and the chat that are on the page

/** A connection, as one device has it: tabs share theirs with the same device of other tabs. */
function line(device) {
  const { transport } = address;
  const connection = connect(base, { share: device, ...(transport && { transport }) });
  connections.push(connection);
  return connection;
}

function screen(name, options) {
  const pane = new Pane({ name, announce, lead: "It shows here as it is written.", ...options });
  pane.onchange = drawComposer;
  stage.append(pane.node);
  panes.push(pane);
}

function build(view, chat) {
  for (const pane of panes) pane.close();
  for (const connection of connections) connection.close();
  panes = [];
  connections = [];
  const lead = "Every token, on every screen that is watching.";
  if (view === "two") {
    screen("Laptop", { channel: chat, connection: line("laptop"), lead, steps: STEPS.two });
    screen("Phone", { channel: chat, connection: line("phone") });
  } else if (view === "wall") {
    const connection = line("laptop"); // six channels, one socket
    WALL.forEach((text, i) => screen(`Agent ${i + 1}`, { channel: `${chat}-${i + 1}`, connection, lead: text, compact: true }));
  } else {
    screen("This screen", { channel: chat, connection: line("laptop"), lead, steps: STEPS.one });
  }
}

/** Show what the address says. */
function show() {
  const { view, chat, theme } = address;
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  if (shown !== `${view} ${chat}`) {
    shown = `${view} ${chat}`;
    document.body.dataset.view = view;
    document.querySelector(`input[name=view][value=${view}]`).checked = true;
    $("lead").textContent = LEADS[view];
    build(view, chat);
    drawComposer();
    drawPrompts(view);
  }
  $("second").href = location.href;
  $("docs").search = theme ? `?theme=${theme}` : "";
}

/** The screens that say how things are: those whose line is cut know no better. */
function current() {
  const live = panes.filter((pane) => pane.live);
  return live.length ? live : panes;
}

function drawComposer() {
  const busy = current().some((pane) => pane.streaming.length > 0);
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
    if (address.view === "wall") {
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

function drawPrompts(view) {
  prompts.replaceChildren();
  const chip = (label, work) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "chip";
    button.textContent = label;
    button.addEventListener("click", work);
    prompts.append(button);
  };
  if (view === "wall") {
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
  const asked = address.view === "wall" ? panes : current().slice(0, 1);
  const turns = asked.flatMap((pane) => pane.streaming);
  await Promise.all(turns.map((turn) => turn.cancel()));
  stop.disabled = false;
  question.focus();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the chat, nothing else
  question.focus();
});
$("fresh").addEventListener("click", () => {
  address.freshChat();
  show();
  question.focus();
});
for (const radio of document.querySelectorAll("input[name=view]")) {
  radio.addEventListener("change", () => {
    address.view = radio.value;
    show();
  });
}
$("theme").addEventListener("click", () => {
  const dark = address.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  address.theme = dark === "dark" ? "light" : "dark";
  show();
});
addEventListener("popstate", show);

const config = await fetch("config").then((answer) => answer.json());
for (const name of config.models) model.append(new Option(name.replace(/^local-/, ""), name));
model.hidden = config.models.length < 2;
$("docs").hidden = !config.documents;
showCode(config.code);
show();
document.body.dataset.started = "true";
question.focus({ preventScroll: true });
