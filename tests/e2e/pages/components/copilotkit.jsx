// CopilotKit's chat as its documentation has it, with our routes as its runtime.
import { CopilotChat, CopilotKitProvider, useAgent, useCopilotKit, useDefaultRenderTool, useFrontendTool, useInterrupt } from "@copilotkit/react-core/v2";
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";

const threadId = location.pathname.split("/").at(-1);

const shortOf = ({ name, value }) => `${name} ${value.url ?? value.media_type ?? value.celsius}`;

function Chat() {
  const { agent } = useAgent();
  const { copilotkit } = useCopilotKit();
  const [customs, setCustoms] = useState([]);
  const [error, setError] = useState();
  useEffect(() => {
    const { unsubscribe } = agent.subscribe({
      onCustomEvent: ({ event }) => setCustoms((all) => [...all, event]),
      onRunErrorEvent: ({ event }) => setError(event.message),
    });
    return unsubscribe;
  }, [agent]);
  const regenerate = (message) => {
    const place = agent.messages.findLastIndex(({ role }) => role === "user");
    agent.setMessages(agent.messages.slice(0, place + 1));
    copilotkit.runAgent({ agent });
  };
  useDefaultRenderTool({ render: ({ name, result }) => <pre data-tool={name}>{result}</pre> });
  useFrontendTool({ name: "pick_file", description: "Pick a file", handler: async () => "a.txt" });
  useInterrupt({
    render: ({ interrupt, resolve }) => (
      <section>
        <p className="question">{interrupt.message}</p>
        <button onClick={() => resolve({ approved: true })}>Approve</button>
      </section>
    ),
  });
  return (
    <>
      <CopilotChat threadId={threadId} messageView={{ assistantMessage: { onRegenerate: regenerate } }} />
      {customs.map((event, index) => <pre className="custom" key={index}>{shortOf(event)}</pre>)}
      {error && <p role="alert">{error}</p>}
    </>
  );
}

createRoot(document.querySelector("#root")).render(
  <CopilotKitProvider runtimeUrl="/agent">
    <Chat />
  </CopilotKitProvider>,
);
