// What pages hold in reactive state works there: Vue's, valtio's and MobX's proxies.
import { reactive, ref } from "@vue/reactivity";
import { observable } from "mobx";
import { proxy } from "valtio/vanilla";

const { connect, Transcript } = await import(process.argv[2]);
const connection = connect(process.argv[3]);

const transcript = new Transcript();
transcript.apply({ type: "start", response_id: "r1" });
transcript.apply({ type: "delta", response_id: "r1", part: 0, kind: "text", offset: 0, text: "hi" });
const holders = {
  ref: (value) => ref([value]).value[0],
  reactive: (value) => reactive({ value }).value,
  observable: (value) => observable({ value }).value,
  proxy: (value) => proxy({ value }).value,
};
const results = {};
for (const [name, hold] of Object.entries(holders)) {
  const response = hold([...transcript][0]);
  results[name] = [response.text, response.reasoning, response.ended, response.tool_calls.length];
}
for (const name of ["ref", "reactive", "observable"]) {
  const hold = holders[name];
  const channel = hold(hold(connection).channel(name, { rewind: "all" }));
  await new Promise((resolve) => channel.on("ready", resolve));
  const sent = await channel.send("note", { from: name });
  results[name].push(channel.responses.length, channel.status, typeof sent.id, connection.transport);
  channel.close();
  results[name].push(channel.closed);
}
console.log(JSON.stringify(results));
connection.close();
process.exit(0);
