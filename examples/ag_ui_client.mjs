// Runs the agent of examples/ag_ui_chat.py, loses it, and joins it again.
// npm install @ag-ui/client && node ag_ui_client.mjs "Tell me a long story"
import { HttpAgent } from "@ag-ui/client";

const url = process.env.AGENT_URL ?? "http://127.0.0.1:8000/agent";
const threadId = crypto.randomUUID();

const agent = new HttpAgent({ url, threadId });
agent.addMessage({ id: crypto.randomUUID(), role: "user", content: process.argv[2] ?? "Hello!" });

let tokens = 0;
const leave = { onTextMessageContentEvent: () => { if (++tokens === 20) agent.abortRun(); } };
await agent.runAgent({}, leave).catch(() => {}); // stops reading; the agent goes on
console.log("had:", agent.messages.at(-1)?.content);

const again = new HttpAgent({ url: `${url}/connect`, threadId, initialMessages: agent.messages });
await again.runAgent();
console.log("has:", again.messages.at(-1).content);
