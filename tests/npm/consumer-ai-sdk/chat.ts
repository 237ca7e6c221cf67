// A program that gives our transport to the AI SDK: `tsc --strict` accepts it, and each @ts-expect-error is an error.
import type { ChatInit, ChatTransport, UIMessage } from "ai";
import { TokenwireChatTransport } from "tokenwire/ai-sdk";
import type { StopOutcome } from "tokenwire/ai-sdk";

type Message = UIMessage<{ run: string }>;

const transport = new TokenwireChatTransport<Message>({
  api: "/api/chat",
  headers: async () => ({ authorization: "Bearer a token" }),
  lastMessageOnly: true,
});
const ofTheSdk: ChatTransport<Message> = transport;
export const init: ChatInit<Message> = { id: "chat-1", transport: ofTheSdk };

export async function stop(): Promise<StopOutcome> {
  const outcome = await transport.stop("chat-1");
  const run: string | null = outcome.run;
  console.log(outcome.success, run);
  // @ts-expect-error A chat is needed.
  await transport.stop();
  return outcome;
}
// @ts-expect-error There is no such option.
new TokenwireChatTransport({ url: "/api/chat" });
