// The page's address says what it shows: `?view=wall&theme=dark#chat`. Reload, Back, a bookmark and a second tab have the same.

export const VIEWS = ["one", "two", "wall"];
const DEFAULT_VIEW = "two";
const CHAT = /^[A-Za-z0-9_-]{1,48}$/;

const query = () => new URLSearchParams(location.search);

/** Change the address: a step to go back to, or in place of the present one. */
function go(change, chat, replace) {
  const changed = query();
  for (const [name, value] of Object.entries(change)) {
    if (value === null) changed.delete(name);
    else changed.set(name, value);
  }
  const search = changed.size ? `?${changed}` : "";
  history[replace ? "replaceState" : "pushState"](null, "", `${location.pathname}${search}#${chat}`);
}

export const address = {
  get view() {
    const view = query().get("view");
    return VIEWS.includes(view) ? view : DEFAULT_VIEW;
  },

  set view(view) {
    go({ view: view === DEFAULT_VIEW ? null : view }, this.chat, false);
  },

  /** The chat; a new one where the address names none. */
  get chat() {
    const chat = location.hash.slice(1);
    if (CHAT.test(chat)) return chat;
    this.freshChat(true);
    return location.hash.slice(1);
  },

  freshChat(replace = false) {
    // Not randomUUID, which pages on plain HTTP do not have.
    const [number] = crypto.getRandomValues(new Uint32Array(1));
    go({}, `chat-${number.toString(16).padStart(8, "0")}`, replace);
  },

  /** "light", "dark", or null: what the system prefers. */
  get theme() {
    const theme = query().get("theme");
    return theme === "light" || theme === "dark" ? theme : null;
  },

  set theme(theme) {
    go({ theme }, this.chat, true);
  },

  /** `?transport=sse` shows the fallback. */
  get transport() {
    const transport = query().get("transport");
    return transport === "sse" || transport === "websocket" ? transport : undefined;
  },
};
