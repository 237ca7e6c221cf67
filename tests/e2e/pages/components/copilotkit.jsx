// CopilotKit's chat as its documentation has it, with our routes as its runtime.
import { CopilotChat, CopilotKitProvider, useInterrupt } from "@copilotkit/react-core/v2";
import { createRoot } from "react-dom/client";

const threadId = location.pathname.split("/").at(-1);

function Chat() {
  useInterrupt({
    render: ({ interrupt, resolve }) => (
      <section>
        <p className="question">{interrupt.message}</p>
        <button onClick={() => resolve({ approved: true })}>Approve</button>
      </section>
    ),
  });
  return <CopilotChat threadId={threadId} />;
}

createRoot(document.querySelector("#root")).render(
  <CopilotKitProvider runtimeUrl="/agent">
    <Chat />
  </CopilotKitProvider>,
);
