// What server.mjs renders to HTML and hydrate.jsx takes over.
import { createElement as h, Fragment, StrictMode } from "react";
import { TokenStream, TokenwireProvider, useChannel, useInput, useResponse } from "tokenwire/react";

function Page() {
  const { responses, status, ready } = useChannel("chat", { rewind: "all" });
  const { sending } = useInput("chat");
  const one = useResponse("chat", "r1");
  const state = JSON.stringify([responses, status, ready, sending, one]);
  return h(Fragment, null, h("p", null, state), h(TokenStream, { channel: "chat", fallback: "nothing yet" }));
}

// A path alone, which only a browser can complete.
export const page = h(StrictMode, null, h(TokenwireProvider, { url: "/stream" }, h(Page)));
