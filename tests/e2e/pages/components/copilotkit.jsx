// CopilotKit's chat as its documentation has it, with our routes as its runtime.
import { CopilotChat, CopilotKitProvider } from "@copilotkit/react-core/v2";
import { createRoot } from "react-dom/client";

const threadId = location.pathname.split("/").at(-1);

createRoot(document.querySelector("#root")).render(
  <CopilotKitProvider runtimeUrl="/agent">
    <CopilotChat threadId={threadId} />
  </CopilotKitProvider>,
);
