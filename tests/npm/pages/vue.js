// The composable of docs/react.md stands before this.
import { createApp, h, ref } from "vue";
import { connect } from "tokenwire";

const connection = connect("/stream");
const channels = ["a", "b"].map((name) => connection.channel(name, { rewind: "all" }));
await Promise.all(channels.map((channel) => new Promise((resolve) => channel.on("ready", resolve))));

const Texts = {
  props: ["channel"],
  setup({ channel }) {
    const responses = useChannel(channel);
    return () => h("p", responses.value.map(({ text }) => text).join("|"));
  },
};
const index = ref(0);
createApp({
  render: () => [
    ...channels.map(({ name }, at) => h("button", { onClick: () => (index.value = at) }, name)),
    h(Texts, { channel: channels[index.value], key: index.value }),
  ],
}).mount("#root");
