// A chat as people write it with useStream of LangGraph's SDK, or, with ?react, of @langchain/react.
import { useStream as ofSdk } from "@langchain/langgraph-sdk/react";
import { useStream as ofReact } from "@langchain/react";
import { useState } from "react";
import { createRoot } from "react-dom/client";

const query = new URLSearchParams(location.search);
const newer = query.has("react");
const useStream = newer ? ofReact : ofSdk;
const apiUrl = `${location.origin}/langgraph`;

// A network that breaks event streams off, three times.
window.cuts = query.has("cut") ? 3 : 0;
const fetchWhole = window.fetch;
window.fetch = async (url, init) => {
  const response = await fetchWhole(url, init);
  if (!window.cuts || !response.headers.get("content-type")?.startsWith("text/event-stream")) return response;
  let left = 6000;
  const body = response.body.pipeThrough(new TransformStream({
    transform(piece, controller) {
      left -= piece.length;
      if (left > 0 || !window.cuts) return controller.enqueue(piece);
      window.cuts--;
      controller.error(new TypeError("network error"));
    },
  }));
  return new Response(body, { status: 200, headers: response.headers });
};

const textOf = (message) => {
  const { content } = message;
  if (typeof content === "string") return content;
  return content.filter((block) => block.type === "text").map((block) => block.text).join("");
};
const thoughtOf = (message) =>
  typeof message.content === "string" ? "" : message.content
    .filter((block) => block.type === "reasoning").map((block) => block.reasoning).join("");
const kindOf = (message) => message.type ?? message.getType();

function Chat() {
  const [threadId, setThreadId] = useState(query.get("thread"));
  const stream = useStream({
    apiUrl,
    assistantId: "agent",
    threadId,
    onThreadId: (id) => {
      query.set("thread", id);
      history.replaceState(null, "", `?${query}`);
      setThreadId(id);
    },
    ...(newer ? {} : { reconnectOnMount: true, fetchStateHistory: query.has("history") }),
  });
  const [input, setInput] = useState("");
  const submit = (event) => {
    event.preventDefault();
    stream.submit({ messages: [{ type: "human", content: input }] });
    setInput("");
  };
  const question = stream.interrupt;
  const answer = (type) => {
    const value = { decisions: [{ type }] };
    if (newer) stream.respond(value, { interruptId: question.id });
    else stream.submit(undefined, { command: { resume: value } });
  };
  const regenerate = (message) => {
    const before = stream.getMessagesMetadata(message)?.firstSeenState?.parent_checkpoint;
    stream.submit(undefined, { checkpoint: before });
  };
  return (
    <main data-status={stream.isLoading ? "streaming" : "ready"} data-thread={threadId ?? ""}>
      {stream.messages.map((message, index) => (
        <article key={message.id ?? index} className={kindOf(message)} data-id={message.id}>
          {thoughtOf(message) && <p className="reasoning">{thoughtOf(message)}</p>}
          <p className="text">{textOf(message)}</p>
          {(message.tool_calls ?? []).map((call) => <pre key={call.id}>{call.name} {JSON.stringify(call.args)}</pre>)}
          {kindOf(message) === "ai" && !newer && <button onClick={() => regenerate(message)}>Again</button>}
        </article>
      ))}
      {question && (
        <section>
          <p className="question">{JSON.stringify(question.value.action_requests)}</p>
          <button onClick={() => answer("approve")}>Approve</button>
          <button onClick={() => answer("reject")}>Reject</button>
        </section>
      )}
      {stream.error && <p role="alert">{String(stream.error.message ?? stream.error)}</p>}
      <form onSubmit={submit}>
        <input aria-label="Message" value={input} onChange={(event) => setInput(event.target.value)} />
        <button>Send</button>
        <button type="button" onClick={() => stream.stop()}>Stop</button>
      </form>
    </main>
  );
}

createRoot(document.querySelector("#root")).render(<Chat />);
