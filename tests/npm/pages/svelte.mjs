// Compile Texts.svelte, and write a page that shows it, into a folder: node svelte.mjs COMPONENT FOLDER
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { compile } from "svelte/compiler";

const [component, folder] = process.argv.slice(2);
const { js, warnings } = compile(readFileSync(component, "utf8"), { generate: "client", filename: "Texts.svelte" });
for (const warning of warnings) throw new Error(warning.message);
writeFileSync(join(folder, "Texts.js"), js.code);
writeFileSync(join(folder, "page.js"), `
import { mount } from "svelte";
import { connect } from "tokenwire";
import Texts from "./Texts.js";

const connection = connect("/stream");
const channels = ["a", "b"].map((name) => connection.channel(name, { rewind: "all" }));
await Promise.all(channels.map((channel) => new Promise((resolve) => channel.on("ready", resolve))));
mount(Texts, { target: document.getElementById("root"), props: { channels } });
`);
