// assistant-ui's components as its documentation has them, on its runtime for AG-UI.
import { HttpAgent } from "@ag-ui/client";
import { ActionBarPrimitive, AssistantRuntimeProvider, ComposerPrimitive, ErrorPrimitive, makeAssistantTool, MessagePrimitive, ThreadPrimitive } from "@assistant-ui/react";
import { useAgUiRuntime } from "@assistant-ui/react-ag-ui";
import { useMemo } from "react";
import { createRoot } from "react-dom/client";

const query = new URLSearchParams(location.search);
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
const shortOf = ({ name, data }) => `${name} ${data.url ?? data.media_type ?? data.celsius}`;
const Data = (part) => <pre className="custom">{shortOf(part)}</pre>;
const parts = { Text, Reasoning, tools: { Fallback: Tool }, data: { Fallback: Data } };
const PickFile = makeAssistantTool({
  type: "frontend",
  toolName: "pick_file",
  description: "Pick a file",
  parameters: { type: "object", properties: {} },
  execute: async () => "a.txt",
});

const UserMessage = () => (
  <MessagePrimitive.Root className="user">
    <MessagePrimitive.Parts components={parts} />
    <ActionBarPrimitive.Root><ActionBarPrimitive.Edit>Edit</ActionBarPrimitive.Edit></ActionBarPrimitive.Root>
  </MessagePrimitive.Root>
);
const EditComposer = () => (
  <ComposerPrimitive.Root className="editing">
    <ComposerPrimitive.Input aria-label="Edited" />
    <ComposerPrimitive.Send>Save</ComposerPrimitive.Send>
  </ComposerPrimitive.Root>
);
const AssistantMessage = () => (
  <MessagePrimitive.Root className="assistant">
    <MessagePrimitive.Parts components={parts} />
    <ErrorPrimitive.Root><ErrorPrimitive.Message /></ErrorPrimitive.Root>
    <ActionBarPrimitive.Root><ActionBarPrimitive.Reload data-testid="again">Again</ActionBarPrimitive.Reload></ActionBarPrimitive.Root>
  </MessagePrimitive.Root>
);

// The runtime joins nothing by itself. Its history makes it run once when it is loaded: that run joins the thread.
class Joining extends HttpAgent {
  run(input) {
    this.url = this.joined ? "/agent" : "/agent/connect";
    this.joined = true;
    return super.run(input);
  }
}
const history = { load: async () => ({ messages: [], unstable_resume: true }), append: async () => {} };

function Chat() {
  const Agent = query.has("history") ? Joining : HttpAgent;
  const agent = useMemo(() => new Agent({ url: "/agent", threadId }), []);
  const runtime = useAgUiRuntime({
    agent,
    adapters: query.has("history") ? { history } : {},
    onCancel: () => fetch(`/agent/${threadId}/stop`, { method: "POST" }),
  });
  return (
    <AssistantRuntimeProvider runtime={runtime}>
      <PickFile />
      <ThreadPrimitive.Root>
        <ThreadPrimitive.Viewport>
          <ThreadPrimitive.Messages components={{ UserMessage, AssistantMessage, UserEditComposer: EditComposer }} />
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
