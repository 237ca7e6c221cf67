// Components of tokenwire/react rendered to HTML, as a server does: nothing may be opened.
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { renderToPipeableStream, renderToString } from "react-dom/server";
import { page } from "./rendered.js";

for (const name of ["fetch", "WebSocket"]) {
  globalThis[name] = () => {
    throw new Error(`a server must not call ${name}`);
  };
}

const { pipe } = renderToPipeableStream(page);
const streamed = await text(pipe(new PassThrough()));
console.log(JSON.stringify({ html: renderToString(page), streamed }));
