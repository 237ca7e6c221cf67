// A page with an HttpAgent of AG-UI: it joins its thread when it opens, and runs the agent when asked.
import { HttpAgent, randomUUID } from "@ag-ui/client";

const threadId = location.pathname.split("/").at(-1);
const main = document.querySelector("#root");
main.innerHTML = `<main data-status="joining"><section></section><form>
  <input aria-label="Message"><button>Send</button><button type="button">Stop</button></form></main>`;
const [page, list, form] = [main.firstChild, main.querySelector("section"), main.querySelector("form")];
const [input, , stop] = form.elements;

const agent = new HttpAgent({ url: "/agent", threadId });
const joining = new HttpAgent({ url: "/agent/connect", threadId });

function show({ messages }) {
  for (const [index, message] of messages.entries()) {
    const article = list.children[index] ?? list.appendChild(document.createElement("article"));
    if (!article.firstChild) article.append(document.createElement("p"));
    article.className = message.role;
    article.dataset.id = message.id;
    article.firstChild.className = message.role === "reasoning" ? "reasoning" : "text";
    const text = typeof message.content === "string" ? message.content : "";
    if (article.firstChild.textContent !== text) article.firstChild.textContent = text;
  }
}

async function follow(one) {
  page.dataset.status = "streaming";
  try {
    await one.runAgent({}, { onMessagesChanged: show });
    page.dataset.status = "ready";
  } catch (error) {
    page.dataset.status = "error";
    throw error;
  }
}

form.onsubmit = (event) => {
  event.preventDefault();
  agent.addMessage({ id: randomUUID(), role: "user", content: input.value });
  input.value = "";
  show(agent);
  follow(agent);
};
stop.onclick = () => fetch(`/agent/${threadId}/stop`, { method: "POST" });

await follow(joining);
agent.setMessages(joining.messages);
