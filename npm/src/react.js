"use client";
// tokenwire/react: channels of a tokenwire gateway in React 18 and 19.
//
//   <TokenwireProvider url="/stream">
//     <TokenStream channel="chat-42" />
//   </TokenwireProvider>
//
// Nothing is opened while a component renders: a channel is opened when the first component that shows it is on
// screen, shared by all that show it with the same options, and closed after the last has gone. So StrictMode,
// renders that are thrown away and rendering on a server open nothing, or nothing twice.
import { createContext, createElement, useCallback, useContext, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { connect } from "./tokenwire.js";

const NOTHING = Object.freeze({ responses: Object.freeze([]), status: "idle", ready: false, error: null });

// -- where channels come from

/** A connection to a gateway, made when a component on screen first needs it. */
class Gateway {
  constructor(make) {
    this._make = make;
    this.made = null;
  }

  get connection() {
    return (this.made ??= this._make());
  }
}

function gatewayWith(connection) {
  const gateway = new Gateway(() => connection);
  gateway.made = connection;
  return gateway;
}

const Context = createContext(null);

/** Give the components within a gateway: its `url` (and `options`, read when the url changes), or a `connection`. */
export function TokenwireProvider({ url, options, connection, children }) {
  const gateway = useMemo(() => (connection ? gatewayWith(connection) : new Gateway(() => connect(url, options))), [url, connection]);
  return createElement(Context.Provider, { value: gateway }, children);
}

function useGateway(own) {
  const provided = useContext(Context);
  return useMemo(() => (own ? gatewayWith(own) : provided), [own, provided]);
}

function connectionOf(gateway) {
  if (gateway === null) {
    throw new Error("tokenwire/react: no connection: put a <TokenwireProvider> around, or give the option connection");
  }
  return gateway.connection;
}

// -- channels on screen

/** What components see of a channel. It is the same object until something changes. */
class Feed {
  _seen = NOTHING;
  _version = -1;

  constructor(channel) {
    this.channel = channel;
  }

  get snapshot() {
    const { version, status, ready, error } = this.channel;
    const seen = this._seen;
    if (version !== this._version || status !== seen.status || ready !== seen.ready || error !== seen.error) {
      const responses = version === this._version ? seen.responses : this.channel.responses;
      this._version = version;
      this._seen = { responses, status, ready, error };
    }
    return this._seen;
  }

  subscribe(changed) {
    const offs = ["response", "reset", "ready", "error", "close"].map((type) => this.channel.on(type, changed));
    offs.push(this.channel.connection.on("status", changed));
    return () => offs.forEach((off) => off());
  }
}

const feedsOfPages = new WeakMap(); // channels that a page opened itself -> their feeds

function feedOf(channel) {
  let feed = feedsOfPages.get(channel);
  if (feed === undefined) feedsOfPages.set(channel, (feed = new Feed(channel)));
  return feed;
}

const feedsByName = new WeakMap(); // connection -> key -> feed, and how many components it is on screen of

/** A channel by its name: opened for as long as a component shows it. */
class NamedFeed {
  constructor(gateway, name, options) {
    this._gateway = gateway;
    this._name = name;
    this._options = options;
    this._key = keyOf(name, options);
  }

  /** The feed, if any component shows it. */
  get _open() {
    return feedsByName.get(this._gateway?.made)?.get(this._key)?.feed ?? null;
  }

  get channel() {
    return this._open?.channel ?? null;
  }

  get snapshot() {
    return this._open?.snapshot ?? NOTHING;
  }

  subscribe(changed) {
    const connection = connectionOf(this._gateway);
    let feeds = feedsByName.get(connection);
    if (feeds === undefined) feedsByName.set(connection, (feeds = new Map()));
    let entry = feeds.get(this._key);
    if (entry === undefined) {
      entry = { feed: new Feed(connection.channel(this._name, this._options)), users: 0 };
      feeds.set(this._key, entry);
    }
    entry.users++;
    const off = entry.feed.subscribe(changed);
    return () => {
      off();
      entry.users--;
      // Later: StrictMode, and a list that is sorted anew, take a component away and put it back at once.
      setTimeout(() => {
        if (entry.users > 0 || feeds.get(this._key) !== entry) return;
        feeds.delete(this._key);
        entry.feed.channel.close();
      });
    };
  }
}

function keyOf(name, { rewind, after, response, known }) {
  return JSON.stringify([name, rewind, after, response, known && [...known]]);
}

function useFeed(channel, options = {}) {
  const gateway = useGateway(options.connection);
  const key = typeof channel === "string" ? keyOf(channel, options) : channel;
  return useMemo(
    () => (typeof channel === "string" ? new NamedFeed(gateway, channel, options) : feedOf(channel)),
    [gateway, key],
  );
}

function useSnapshot(feed, read, readOnServer) {
  const subscribe = useCallback((changed) => feed.subscribe(changed), [feed]);
  return useSyncExternalStore(subscribe, read, readOnServer);
}

// -- hooks

/**
 * Watch a channel: its name, with the options of `Connection.channel`, or a `Channel` that the page has opened.
 *
 * Returns `{responses, status, ready, error, send, cancel}`, and renders again whenever one of the first four changes.
 */
export function useChannel(channel, options) {
  const feed = useFeed(channel, options);
  const snapshot = useSnapshot(feed, () => feed.snapshot, () => NOTHING);
  const actions = useActions(channel, options);
  return useMemo(() => ({ ...snapshot, ...actions }), [snapshot, actions]);
}

/** One response of a channel, by its id; without one, the newest. Null where there is none (yet). */
export function useResponse(channel, id, options) {
  const feed = useFeed(channel, options);
  const read = () => (id == null ? feed.snapshot.responses.at(-1) : feed.channel?.get(id)) ?? null;
  return useSnapshot(feed, read, () => null);
}

function useActions(channel, options) {
  const gateway = useGateway(options?.connection);
  return useMemo(() => {
    const named = typeof channel === "string";
    const request = (op, fields) =>
      named ? connectionOf(gateway).request(op, channel, fields) : channel.connection.request(op, channel.name, fields);
    return {
      send: (name, data = null, { id = newId() } = {}) => request("input", { name, data, input_id: id }),
      cancel: (responseId, reason) => request("cancel", { response: responseId, reason }),
    };
  }, [gateway, channel]);
}

/**
 * Send messages to the agent: `send(data)` resolves to `{id, cursor}`, or to null where it failed and `error` says why.
 *
 * A `send` of the same data after a failure has the id of the one that failed, so the agent gets it once.
 */
export function useInput(channel, { name = "message", connection } = {}) {
  const actions = useActions(channel, { connection });
  const [pending, setPending] = useState(0);
  const [error, setError] = useState(null);
  const failed = useRef(null); // what was not sent, and the id it had
  const send = useCallback(
    async (data) => {
      const text = JSON.stringify(data) ?? null;
      const id = failed.current?.text === text ? failed.current.id : newId();
      failed.current = null;
      setError(null);
      setPending((count) => count + 1);
      try {
        return await actions.send(name, data, { id });
      } catch (problem) {
        failed.current = { text, id };
        setError(problem);
        return null;
      } finally {
        setPending((count) => count - 1);
      }
    },
    [actions, name],
  );
  return { send, sending: pending > 0, error };
}

function newId() {
  // Not randomUUID, which pages on plain HTTP do not have.
  return `i-${[...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

// -- a component

/**
 * The text of a response as it comes: the newest of a channel, or the one with the id `response`.
 *
 * `as`: the element around it; `kind`: "text", "reasoning" or "refusal"; `children`: a function of the response that
 * renders something else; `fallback`: what is shown before there is a response.
 */
export function TokenStream({ channel, response: id, options, as = "div", kind = "text", fallback = null, children, ...rest }) {
  const response = useResponse(channel, id, options);
  const text = response === null ? fallback : typeof children === "function" ? children(response) : response[kind];
  const streaming = response !== null && !response.ended;
  return createElement(as, { "aria-live": "polite", "aria-busy": streaming, "data-state": response?.state, ...rest }, text);
}
