// A chat as people write it with useChat: nothing here knows of tokenwire but the address to stop at.
import { useChat } from "@ai-sdk/react";
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";

const id = location.pathname.split("/").at(-1);
const saved = await (await fetch(`/api/chat/${id}/messages`)).json();

function Part({ part }) {
  if (part.type === "text") return <p className="text">{part.text}</p>;
  if (part.type === "reasoning") return <p className="reasoning">{part.text}</p>;
  if (part.type.startsWith("tool-")) return <pre data-state={part.state}>{JSON.stringify(part.output)}</pre>;
  return null;
}

function Chat() {
  const { messages, sendMessage, status, error } = useChat({ id, messages: saved, resume: true });
  const [input, setInput] = useState("");
  const submit = (event) => {
    event.preventDefault();
    sendMessage({ text: input });
    setInput("");
  };
  return (
    <main data-status={status}>
      {messages.map((message) => (
        <article key={message.id} className={message.role} data-id={message.id}>
          {message.parts.map((part, index) => <Part key={index} part={part} />)}
        </article>
      ))}
      {error && <p role="alert">{error.message}</p>}
      <form onSubmit={submit}>
        <input aria-label="Message" value={input} onChange={(event) => setInput(event.target.value)} />
        <button>Send</button>
        <button type="button" onClick={() => fetch(`/api/chat/${id}/stop`, { method: "POST" })}>Stop</button>
      </form>
    </main>
  );
}

const strict = new URLSearchParams(location.search).has("strict");
createRoot(document.querySelector("#root")).render(strict ? <StrictMode><Chat /></StrictMode> : <Chat />);
