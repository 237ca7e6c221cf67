// tokenwire-tabs.js: the tabs of an origin share one line to the gateway. tokenwire.js loads it where it helps.
//
// One tab leads: it holds a lock (navigator.locks), has the line, and subscribes for the others, which talk to it over
// BroadcastChannels. A subscription of another tab is one of its own on the line, from that tab's own cursor. So when
// the leader goes, the browser gives the lock to the next tab, and every tab goes on from where it is itself: nothing
// is lost and nothing comes twice. From a leader that does not answer (the browser has frozen it) another tab takes the
// lock. No SharedWorker: not every browser has it, and it would be a second way.
//
// Who may read a channel, and as whom, is asked by each tab for itself, and the leader passes on only what its line reads
// as the same user. Cancels, inputs and history are each tab's own requests.

import { linesOf } from "./tokenwire-tab-lines.js";

/** Share the line of a connection. `parts`: the classes of the tokenwire.js that asks. */
export function share(connection, parts) {
  return new Tabs(connection, linesOf(parts));
}

/** What a connection shares. */
class Tabs {
  constructor(connection, lines) {
    const { transport, credentials, token, share } = connection.options;
    this.connection = connection;
    this.group = `tokenwire 2 ${JSON.stringify([connection.url("").href, transport, credentials ?? null, Boolean(token), String(share)])}`;
    this.id = `${this.group} ${[...crypto.getRandomValues(new Uint32Array(4))].join("-")}`;
    this.named = typeof share === "string"; // the page says whose it is, also where the gateway cannot
    this.alone = false; // the leader does not do for us: until another leads, we have a line of our own
    this._lines = lines;
    this._member = null; // aborts what makes us a member of the group
    this._followers = null; // while we lead: by their ids
    this.nextKey = 1; // of a subscription with any leader: what an earlier one still sends is for nobody
    connection.on("status", (status) => this._became(status));
  }

  get leads() {
    return this._followers !== null;
  }

  /** The line to open; null for an ordinary one. */
  line(kind) {
    this._join();
    if (!this.leads) return this.alone ? null : new this._lines.TabLine(this.connection, this);
    const many = kind === "sse" && this._followers.size > 0 && this.manyAtOnce !== false;
    return many ? new this._lines.ManyLine(this.connection, this) : null;
  }

  post(message) {
    this._room?.postMessage({ ...message, from: this.id });
  }

  // -- the group

  _join() {
    if (this._member !== null) return;
    const member = (this._member = new AbortController());
    const { signal } = member;
    this._room = new BroadcastChannel(this.group); // all tabs
    this._inbox = new BroadcastChannel(this.id); // the leader to us
    this._room.onmessage = ({ data }) => this._take(data);
    this._inbox.onmessage = ({ data }) => this.connection._line?.fromLeader?.(data);
    const held = new Promise((resolve) => signal.addEventListener("abort", resolve));
    // Whoever gets this lock after us knows that we are gone.
    this.here = new Promise((resolve) => {
      const hold = () => {
        resolve();
        return held;
      };
      navigator.locks.request(this.id, { signal }, hold).catch(() => {});
    });
    const lead = (options) =>
      navigator.locks
        .request(this.group, options, () => {
          if (signal.aborted) return undefined;
          this._lead(signal);
          return held;
        })
        .catch(() => {
          if (signal.aborted) return;
          if (this.leads) this._stepDown();
          else this._setAlone(); // no locks for this page: a sandboxed frame, say
        });
    /** Lead in place of a leader that is frozen: the browser would leave the lock with it. */
    this.takeOver = () => lead({ steal: true });
    lead({ signal });
  }

  /** Another tab leads: the browser had frozen this one. */
  _stepDown() {
    this.leave();
    this.connection.switchLine();
  }

  /** Be no member of the group any more: another tab leads, if this one did. */
  leave() {
    this._member?.abort();
    this._member = null;
    for (const follower of this._followers?.values() ?? []) follower.close();
    this._followers = null;
    this._room?.close();
    this._inbox?.close();
    this._room = this._inbox = null;
  }

  _became(status) {
    if (["idle", "paused", "closed"].includes(status)) this.leave();
    for (const follower of this._followers?.values() ?? []) follower.post({ op: "status", status });
  }

  _setAlone() {
    this.alone = true;
    this.connection.switchLine();
  }

  /** The leader does not answer, or may not read what we may. */
  dissent(line) {
    if (line === this.connection._line) this._setAlone();
  }

  _lead(signal) {
    this._followers = new Map();
    this._signal = signal;
    this.post({ op: "lead" });
    if (this.alone) this.alone = false; // we have a line already
    else this.connection.switchLine();
  }

  _take({ op, from, ...message }) {
    if (op === "lead") {
      this.alone = false;
      this.connection.switchLine();
    } else if (this.leads && typeof from === "string" && from.startsWith(this.group)) {
      let follower = this._followers.get(from);
      if (op === "hello" && follower === undefined) {
        follower = new Follower(this, from);
        this._followers.set(from, follower);
        navigator.locks.request(from, { signal: this._signal }, () => this.gone(follower)).catch(() => {});
      }
      follower?.take(op, message);
    }
  }

  gone(follower) {
    if (this._followers?.get(follower.id) === follower) this._followers.delete(follower.id);
    follower.close();
  }

  /** A channel of another tab is to be had: an event stream of each would take all connections of the browser. */
  subscribe(relay) {
    const { connection } = this;
    connection._channels.add(relay);
    const line = connection._line;
    if (line?.kind === "sse" && line.many !== true && this.manyAtOnce !== false) connection.switchLine();
    else if (line?.opened) line.join(relay);
  }
}

/** Another tab, as the leader has it. */
class Follower {
  constructor(tabs, id) {
    this.id = id;
    this._tabs = tabs;
    this._outbox = new BroadcastChannel(id);
    this._relays = new Map();
  }

  post(message) {
    this._outbox?.postMessage(message);
  }

  get hasLine() {
    return this._tabs.connection._line !== null;
  }

  take(op, { key, ...message }) {
    if (op === "join") {
      const relay = new Relay(this, key, message);
      this._relays.set(key, relay);
      this._tabs.subscribe(relay);
    } else if (op === "leave") {
      this.drop(key);
    } else if (op === "bye") {
      this._tabs.gone(this);
    } else if (op === "hello" || op === "ping") {
      if (op === "hello") for (const old of [...this._relays.keys()]) this.drop(old); // it begins anew
      this.post({ op: "status", status: this._tabs.connection.status });
    }
  }

  drop(key) {
    const relay = this._relays.get(key);
    if (relay === undefined) return;
    this._relays.delete(key);
    relay.closed = true;
    this._tabs.connection.leave(relay);
  }

  close() {
    for (const key of [...this._relays.keys()]) this.drop(key);
    this._outbox?.close();
    this._outbox = null;
  }
}

/** A channel of another tab: to the leader's line a channel like its own, which passes on what it is given. */
class Relay {
  closed = false;
  _arrived = false;
  _sameUser = false;

  constructor(follower, key, { user, name, only, rewind, cursor }) {
    this._user = user;
    this._follower = follower;
    this._key = key;
    this.name = name;
    this.only = only;
    this.rewind = rewind;
    this.cursor = cursor;
    this.sub = `${follower.id.slice(-24)} ${key}`;
  }

  _post(message) {
    this._follower.post({ ...message, key: this._key });
  }

  start() {
    this._arrived = false;
    return { ...(this.cursor === null ? { rewind: this.rewind ?? undefined } : { after: this.cursor }), response: this.only ?? undefined };
  }

  /** The gateway says as whom this line reads the channel; before that, nothing is passed on. */
  joinedAs(user = null) {
    this._sameUser = user === this._user;
    if (!this._sameUser) this.fail();
  }

  take(events, cursor) {
    if (!this._sameUser) return true;
    if (cursor !== null) this.cursor = cursor;
    if (events.length > 0 || cursor !== null) this._post({ op: "events", events, cursor });
    return true; // the other tab looks for gaps
  }

  arrived(reset) {
    if (!this._sameUser || (this._arrived && !reset)) return;
    this._arrived = true;
    this._post({ op: "arrived", reset });
  }

  get() {
    return undefined;
  }

  startOver(reason) {
    this.cursor = null;
    this._post({ op: "startOver", reason });
  }

  fail() {
    this._post({ op: "refused" });
    this._follower.drop(this._key);
  }

  close() {
    // Without a line, it is the leader that closes: the other tab goes on with the next one.
    if (this._follower.hasLine) this._post({ op: "end" });
    this._follower.drop(this._key);
  }
}
