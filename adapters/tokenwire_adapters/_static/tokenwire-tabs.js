// tokenwire-tabs.js: the tabs of an origin share one line to the gateway. tokenwire.js loads it where it helps.
//
// One tab leads: it holds a lock (navigator.locks), has the line, and subscribes for the others, which talk to it over
// BroadcastChannels. A subscription of another tab is one of its own on the line, from that tab's own cursor. So when
// the leader goes, the browser gives the lock to the next tab, and every tab goes on from where it is itself: nothing
// is lost and nothing comes twice. From a leader that does not answer (the browser has frozen it) another tab takes the
// lock. No SharedWorker: not every browser has it, and it would be a second way.
//
// Who may read a channel is asked by each tab for itself; cancels, inputs and history are each tab's own requests.

const RESTART = 20; // milliseconds in which joins gather, where each needs a new stream

/** Share the line of a connection. `parts`: the classes of the tokenwire.js that asks. */
export function share(connection, parts) {
  return new Tabs(connection, linesOf(parts));
}

/** What a connection shares. */
class Tabs {
  constructor(connection, lines) {
    const { transport, credentials, token, share } = connection.options;
    this.connection = connection;
    this.group = `tokenwire ${JSON.stringify([connection.url("").href, transport, credentials ?? null, Boolean(token), String(share)])}`;
    this.id = `${this.group} ${[...crypto.getRandomValues(new Uint32Array(4))].join("-")}`;
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

  constructor(follower, key, { name, only, rewind, cursor }) {
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

  take(events, cursor) {
    if (cursor !== null) this.cursor = cursor;
    if (events.length > 0 || cursor !== null) this._post({ op: "events", events, cursor });
    return true; // the other tab looks for gaps
  }

  arrived(reset) {
    if (this._arrived && !reset) return;
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

function linesOf({ Line, SocketLine, SseParser }) {
  /** The line of a tab that follows: the leader's. */
  class TabLine extends Line {
    kind = "shared";
    _keys = new Map(); // channel -> the key of its subscription
    _answered = false;
    _askedAt = null;
    _missed = 0; // requests in a row that the leader has not answered

    constructor(connection, tabs) {
      super(connection);
      this._tabs = tabs;
    }

    open() {
      this._tabs.here.then(() => {
        if (!this.closed) this._tabs.post({ op: "hello" });
      });
      const { silence, connectTimeout } = this.connection.options;
      const opening = Date.now();
      this._watchdog = setInterval(() => {
        if (this.opened) this._askLeader();
        else if (Date.now() - opening > connectTimeout) this.lost();
      }, Math.min(silence, connectTimeout) / 3);
    }

    /** Look for a leader that is gone. Browsers let timers of hidden tabs wait, so what counts is what it did not answer. */
    _askLeader() {
      this._missed = this._askedAt !== null && this._receivedAt < this._askedAt ? this._missed + 1 : 0;
      if (this._missed > 1) {
        clearInterval(this._watchdog);
        this._tabs.takeOver();
      } else {
        this._askedAt = Date.now();
        this._tabs.post({ op: "ping" });
      }
    }

    lost(how) {
      if (this._answered) super.lost(how);
      else if (!this.closed) this._tabs.dissent(this);
    }

    probe() {
      const since = Date.now();
      this._tabs.post({ op: "ping" });
      setTimeout(() => this.lostSince(since), 5000);
    }

    fromLeader({ op, key, ...message }) {
      if (this.closed) return;
      this.received();
      this._answered = true;
      if (op === "status") return this._follow(message.status);
      const channel = [...this._keys].find(([, its]) => its === key)?.[0];
      if (channel === undefined) return;
      if (op === "events") {
        if (!channel.take(message.events, message.cursor)) {
          channel.gap();
          this.connection.rejoin(channel);
        }
      } else if (op === "arrived") {
        channel.arrived(message.reset);
        this.connection.healthy();
      } else if (op === "startOver") {
        channel.startOver(message.reason);
      } else if (op === "end") {
        this._keys.delete(channel);
        channel.close();
      } else if (op === "refused") {
        this._tabs.dissent(this); // we were allowed to, a moment ago
      }
    }

    /** The leader's line became `status`. */
    _follow(status) {
      if (status === "live") {
        this.isOpen();
        this.connection._set("live");
      } else if (this.opened && (status === "waiting" || status === "connecting")) {
        this.connection._set(status);
      }
    }

    join(channel) {
      if (this._keys.has(channel)) return;
      const key = this._tabs.nextKey++;
      this._keys.set(channel, key);
      this._allowed(channel).then(
        () => {
          if (this.closed || this._keys.get(channel) !== key) return;
          this._throttled.delete(channel);
          const { name, only, rewind, cursor } = channel;
          channel.start();
          this._tabs.post({ op: "join", key, name, only, rewind, cursor });
        },
        (error) => {
          if (this.closed || this._keys.get(channel) !== key) return;
          this._keys.delete(channel);
          this.refused(channel, error);
        },
      );
    }

    /** Ask the gateway whether this tab may read a channel: who is signed in here need not be who is there. */
    async _allowed({ name }) {
      const control = new AbortController();
      await this.connection.fetch(`channels/${encodeURIComponent(name)}/events?wait=0`, { stream: true, signal: control.signal });
      control.abort();
    }

    leave(channel) {
      const key = this._keys.get(channel);
      this._keys.delete(channel);
      if (key !== undefined) this._tabs.post({ op: "leave", key });
    }

    close() {
      super.close();
      this._tabs.post({ op: "bye" });
    }
  }

  /** One stream of server-sent events for many channels. A channel more is another stream, from where all are. */
  class ManyLine extends SocketLine {
    kind = "sse";
    many = true;
    _control = null;
    _later = null;
    _most = 64; // subscriptions of a stream; more wait until others have left

    constructor(connection, tabs) {
      super(connection);
      this._tabs = tabs;
    }

    open() {
      Line.prototype.open.call(this);
      this._stream();
    }

    async _stream() {
      this._control?.abort();
      const { signal } = (this._control = new AbortController());
      const channels = this.connection.members.slice(0, this._most);
      this._asked = channels;
      this._subscriptions = new Map(channels.map((channel) => [this.keyOf(channel), channel]));
      const subscriptions = channels.map((channel) => ({ channel: channel.name, sub: channel.sub ?? undefined, ...channel.start() }));
      try {
        const headers = { accept: "text/event-stream" };
        const answer = await this.connection.fetch("events", { method: "POST", body: JSON.stringify({ subscriptions }), stream: true, signal, headers });
        const parser = new SseParser(({ data }) => {
          if (!signal.aborted && !this.closed) this._take(JSON.parse(data));
        });
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        for (;;) {
          const { done, value } = await reader.read();
          if (signal.aborted) return;
          if (done) break;
          this.received();
          parser.push(value);
        }
        this.lost();
      } catch (error) {
        if (!signal.aborted) this._failed(error);
      }
    }

    _failed(error) {
      const { status, retryAfter } = error;
      if (status === 422 && this._most > 1) {
        this._most >>= 1;
        this._stream();
      } else if (status === 404 || status === 405) {
        this._tabs.manyAtOnce = false; // a gateway that does not know this
        this.connection.switchLine();
      } else if (status === 401) {
        this._closedWith(4401);
      } else {
        this.lost(status === 403 ? { fatal: error } : { retry: retryAfter ? retryAfter * 1000 : null });
      }
    }

    _take(message) {
      if (message.op === "close") this._closedWith(message.code);
      else if (message.op === "reply") this._throttled.delete(this._asked[message.id]);
      else if (message.op === "error" && message.id != null) {
        // As if the subscription had ended.
        const { name, sub } = this._asked[message.id];
        super._take({ ...message, id: undefined, channel: name, sub });
      } else super._take(message);
    }

    join(channel) {
      if (this._subscriptions.get(this.keyOf(channel)) !== channel) this._streamLater();
    }

    _streamLater() {
      this._later ??= setTimeout(() => {
        this._later = null;
        if (!this.closed) this._stream();
      }, RESTART);
    }

    leave(channel) {
      const key = this.keyOf(channel);
      if (this._subscriptions.get(key) === channel) this._subscriptions.delete(key);
      if (this.connection.members.length >= this._most) this._streamLater();
    }

    probe() {
      Line.prototype.probe.call(this);
    }

    close() {
      super.close();
      clearTimeout(this._later);
      this._control?.abort();
    }
  }

  return { TabLine, ManyLine };
}
