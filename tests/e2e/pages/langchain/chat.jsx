// A chat as people write it with useStream of LangGraph's SDK, or, with ?react, of @langchain/react.
import { useStream as ofSdk } from "@langchain/langgraph-sdk/react";
import { useChannel, useExtension, useMessageMetadata, useStream as ofReact } from "@langchain/react";
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

// What the page of each client does with data that is no message, and where a message was first seen.
const CUSTOM = ["custom"];
const Weather = ({ stream }) => <pre className="weather">{JSON.stringify(useExtension(stream, "weather"))}</pre>;
const Custom = ({ stream }) => <pre className="custom">{JSON.stringify(useChannel(stream, CUSTOM).map(({ params }) => {
  const { name, payload } = params.data;
  return { name, data: payload };
}))}</pre>;
function MetadataOfReact({ stream, message, children }) {
  const before = useMessageMetadata(stream, message.id)?.parentCheckpointId;
  return children(before && { forkFrom: before });
}
function MetadataOfSdk({ stream, message, children }) {
  const before = stream.getMessagesMetadata(message)?.firstSeenState?.parent_checkpoint;
  return children(before && { checkpoint: before });
}
const Metadata = newer ? MetadataOfReact : MetadataOfSdk;

function Chat() {
  const [customs, setCustoms] = useState([]);
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
    ...(newer ? {} : { reconnectOnMount: true, fetchStateHistory: query.has("history"), onCustomEvent: (data) => setCustoms((all) => [...all, data]) }),
  });
  const [input, setInput] = useState("");
  const submit = (event) => {
    event.preventDefault();
    const picture = { type: "image_url", image_url: { url: "data:image/png;base64,iVBORw0KGgo=" } };
    const content = query.has("picture") ? [{ type: "text", text: input }, picture] : input;
    stream.submit({ messages: [{ type: "human", content }] });
    setInput("");
  };
  const edit = async (message, at) => {
    if (newer) {
      // The SDK that this client brings remembers the newest checkpoint of a message, not the first one.
      const states = await stream.client.threads.getHistory(threadId);
      const first = states.findLast(({ values }) => values.messages.some(({ id }) => id === message.id));
      at = { forkFrom: first.parent_checkpoint.checkpoint_id };
    }
    stream.submit({ messages: [{ type: "human", content: input }] }, at);
    setInput("");
  };
  // What another tab began: a page of the older client joins it when asked to, and either stops it.
  const running = async () => (await stream.client.runs.list(threadId, { status: "running" }))[0]?.run_id;
  const join = async () => stream.joinStream(await running());
  const stopAll = async () => stream.client.runs.cancel(threadId, await running());
  // While a run is under way elsewhere, the older client has an interrupt without a value.
  const question = stream.interrupt?.value && stream.interrupt;
  const answer = (type) => {
    const value = { decisions: [{ type }] };
    if (newer) stream.respond(value, { interruptId: question.id });
    else stream.submit(undefined, { command: { resume: value } });
  };
  return (
    <main data-status={stream.isLoading ? "streaming" : "ready"} data-thread={threadId ?? ""}>
      {stream.messages.map((message, index) => (
        <article key={message.id ?? index} className={kindOf(message)} data-id={message.id}>
          {thoughtOf(message) && <p className="reasoning">{thoughtOf(message)}</p>}
          <p className="text">{textOf(message)}</p>
          {(message.tool_calls ?? []).map((call) => <pre key={call.id}>{call.name} {JSON.stringify(call.args)}</pre>)}
          {kindOf(message) === "human" && typeof message.content !== "string" && <img src={message.content[1].image_url.url} />}
          <Metadata stream={stream} message={message}>
            {(at) => at && (kindOf(message) === "ai"
              ? <button onClick={() => stream.submit(undefined, at)}>Again</button>
              : <button onClick={() => edit(message, at)}>Edit</button>)}
          </Metadata>
        </article>
      ))}
      {newer && <Weather stream={stream} />}
      {newer ? <Custom stream={stream} /> : <pre className="custom">{JSON.stringify(customs)}</pre>}
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
        <button type="button" onClick={stopAll}>Stop everywhere</button>
        {!newer && <button type="button" onClick={join}>Join</button>}
      </form>
    </main>
  );
}

createRoot(document.querySelector("#root")).render(<Chat />);
