// Two chats in one place, as people write them with useChat and tokenwire's transport.
import { useChat } from "@ai-sdk/react";
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";

const client = "/stream/ai-sdk.js"; // the gateway's file, and no part of the bundle
const { TokenwireChatTransport } = await import(client);
const transport = new TokenwireChatTransport({ api: "/api/chat" });

function Chat({ id }) {
  const { messages, sendMessage, status, error } = useChat({ id, transport, resume: true });
  return (
    <main data-status={status} data-chat={id}>
      {messages.map((message) => (
        <article key={message.id} className={message.role}>
          <p className="text">{message.parts.map((part) => (part.type === "text" ? part.text : "")).join("")}</p>
        </article>
      ))}
      {error && <p role="alert">{error.message}</p>}
      <button onClick={() => sendMessage({ text: "tell me a long story" })}>Send</button>
      <button onClick={() => transport.stop(id)}>Stop</button>
    </main>
  );
}

function Chats() {
  const [id, setId] = useState("c1");
  return (
    <>
      {["c1", "c2"].map((name) => <button key={name} onClick={() => setId(name)}>{name}</button>)}
      <button onClick={() => setId(null)}>none</button>
      {id && <Chat id={id} />}
    </>
  );
}

createRoot(document.querySelector("#root")).render(<StrictMode><Chats /></StrictMode>);
