// assistant-ui's components as its documentation has them, on its runtime for AG-UI.
import { HttpAgent } from "@ag-ui/client";
import { AssistantRuntimeProvider, ComposerPrimitive, MessagePrimitive, ThreadPrimitive } from "@assistant-ui/react";
import { useAgUiRuntime } from "@assistant-ui/react-ag-ui";
import { useMemo } from "react";
import { createRoot } from "react-dom/client";

const threadId = location.pathname.split("/").at(-1);

const Tool = ({ toolName, result, approval, respondToApproval }) => (
  <div>
    <pre data-tool={toolName}>{JSON.stringify(result)}</pre>
    {approval && approval.approved === undefined && (
      <button onClick={() => respondToApproval({ approved: true })}>Approve</button>
    )}
  </div>
);
const Text = ({ text }) => <p className="text">{text}</p>;
const Reasoning = ({ text }) => <p className="reasoning">{text}</p>;
const parts = { Text, Reasoning, tools: { Fallback: Tool } };

const UserMessage = () => (
  <MessagePrimitive.Root className="user"><MessagePrimitive.Parts components={parts} /></MessagePrimitive.Root>
);
const AssistantMessage = () => (
  <MessagePrimitive.Root className="assistant"><MessagePrimitive.Parts components={parts} /></MessagePrimitive.Root>
);

function Chat() {
  const agent = useMemo(() => new HttpAgent({ url: "/agent", threadId }), []);
  const runtime = useAgUiRuntime({
    agent,
    onCancel: () => fetch(`/agent/${threadId}/stop`, { method: "POST" }),
  });
  return (
    <AssistantRuntimeProvider runtime={runtime}>
      <ThreadPrimitive.Root>
        <ThreadPrimitive.Viewport>
          <ThreadPrimitive.Messages components={{ UserMessage, AssistantMessage }} />
        </ThreadPrimitive.Viewport>
        <ComposerPrimitive.Root>
          <ComposerPrimitive.Input aria-label="Message" />
          <ComposerPrimitive.Send>Send</ComposerPrimitive.Send>
          <ComposerPrimitive.Cancel>Stop</ComposerPrimitive.Cancel>
        </ComposerPrimitive.Root>
      </ThreadPrimitive.Root>
    </AssistantRuntimeProvider>
  );
}

createRoot(document.querySelector("#root")).render(<Chat />);
