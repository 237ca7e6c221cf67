// Components of tokenwire/react, driven by a test: window.show({...}) sets what is on screen.
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { connect } from "tokenwire";
import { TokenStream, TokenwireProvider, useChannel, useInput, useResponse } from "tokenwire/react";

const all = { rewind: "all" };
const seen = (window.seen = []); // each render of the texts of a channel: [channel, text]
const renders = (window.renders = {}); // of each useResponse
const connection = (window.connection = connect("/stream"));
const opened = (window.opened = []); // each channel that was opened, by name
const open = connection.channel.bind(connection);
connection.channel = (name, options) => {
  const channel = open(name, options);
  opened.push(channel);
  return channel;
};
window.own = null;

function Texts({ channel, id = "texts" }) {
  const { responses, status, ready, error } = useChannel(channel, all);
  const text = responses.map((response) => response.text).join("|");
  seen.push([typeof channel === "string" ? channel : `own ${channel.name}`, text]);
  return <p id={id} data-status={status} data-ready={ready} data-error={error?.code}>{text}</p>;
}

function One({ channel, id }) {
  const response = useResponse(channel, id, all);
  renders[id] = (renders[id] ?? 0) + 1;
  return <p id={`one-${id}`}>{response?.text ?? "none"}</p>;
}

function Box({ channel }) {
  const { send, sending, error } = useInput(channel);
  const { cancel } = useChannel(channel, all);
  const [sent, setSent] = useState("");
  return (
    <form onSubmit={(event) => event.preventDefault()}>
      <button id="send" disabled={sending} onClick={async () => setSent((await send({ text: "hello" }))?.id ?? "failed")}>send</button>
      <button id="cancel" onClick={async () => setSent((await cancel("slow")).state)}>cancel</button>
      <output id="sent" data-error={error?.code}>{sent}</output>
    </form>
  );
}

function Page() {
  const [{ channel, twice, ones = [], box, stream }, show] = useState({});
  window.show = show;
  window.own ??= connection.channel("b", all);
  const named = channel === "own" ? window.own : channel;
  return (
    <main>
      {named && <Texts channel={named} />}
      {named && twice && <Texts channel={named} id="again" />}
      {ones.map((id) => <One key={id} channel={channel} id={id} />)}
      {box && <Box channel={channel} />}
      {stream && <TokenStream channel={channel} options={all} id="stream" as="pre" fallback="nothing yet" {...stream} />}
    </main>
  );
}

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <TokenwireProvider connection={connection}>
      <Page />
    </TokenwireProvider>
  </StrictMode>,
);
