import type { ReactElement } from "react";
import { connect } from "tokenwire";
import { TokenStream, TokenwireProvider, useChannel, useInput, useResponse } from "tokenwire/react";

const connection = connect("/stream");

function Chat(): ReactElement {
  const { responses, status, error, cancel } = useChannel("chat-42", { rewind: "all" });
  const newest = useResponse("chat-42");
  const { send, sending } = useInput("chat-42", { name: "message" });
  return (
    <main>
      <p>{status} {error?.code}</p>
      {responses.map(({ id, text }) => <p key={id} onClick={() => void cancel(id)}>{text}</p>)}
      <button disabled={sending} onClick={() => void send({ text: newest?.text ?? "" })}>send</button>
      <TokenStream channel="chat-42" as="span" className="answer" fallback="…" />
      <TokenStream channel={connection.channel("other")}>{(response) => <b>{response.text}</b>}</TokenStream>
      {/* @ts-expect-error A channel is needed. */}
      <TokenStream />
      {/* @ts-expect-error A span has no href. */}
      <TokenStream channel="chat-42" as="span" href="/" />
    </main>
  );
}

export const page = (
  <TokenwireProvider url="/stream" options={{ token: () => "a token" }}>
    <Chat />
  </TokenwireProvider>
);
