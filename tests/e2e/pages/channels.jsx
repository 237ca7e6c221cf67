// Two channels, read before anything shows them. `useChannel` stands before this: the documentation's.
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";

const { connect } = await import(`${location.origin}/stream/tokenwire.js`);
const connection = connect("/stream");
const channels = ["a", "b"].map((name) => connection.channel(name, { rewind: "all" }));
await Promise.all(channels.map((channel) => new Promise((resolve) => channel.on("ready", resolve))));

function Texts({ channel }) {
  const texts = useChannel(channel).map(({ text }) => text);
  // What each render shows is kept: a text of another channel must not be seen for a moment either.
  shown.push([channel.name, texts.join(" ")]);
  return <p>{texts.join(" ")}</p>;
}

function Page() {
  const [index, choose] = useState(0);
  return (
    <main>
      {channels.map(({ name }, at) => <button key={name} onClick={() => choose(at)}>{name}</button>)}
      <Texts channel={channels[index]} />
    </main>
  );
}

const shown = (window.shown = []);
createRoot(document.getElementById("root")).render(<StrictMode><Page /></StrictMode>);
