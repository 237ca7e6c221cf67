// tokenwire-tab-lines.js: the lines that tabs have which share one: to the leader, and from the leader to the gateway.
// tokenwire-tabs.js loads it.

const RESTART = 20; // milliseconds in which joins gather, where each needs a new stream

export function linesOf({ Line, SocketLine, SseParser }) {
  /** The line of a tab that follows: the leader's. */
  class TabLine extends Line {
    kind = "shared";
    _joins = new Map(); // channel -> its subscription: the key, and whose rights it has
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
      for (const channel of this._joins.keys()) this._askAgain(channel);
    }

    fromLeader({ op, key, ...message }) {
      if (this.closed) return;
      this.received();
      this._answered = true;
      if (op === "status") return this._follow(message.status);
      const channel = [...this._joins].find(([, join]) => join.key === key)?.[0];
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
        this._forget(channel);
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
      if (this._joins.has(channel)) return;
      const join = { key: this._tabs.nextKey++, user: null, timer: null };
      this._joins.set(channel, join);
      this._rights(channel).then(
        (rights) => {
          if (this.closed || this._joins.get(channel) !== join) return;
          this._throttled.delete(channel);
          join.user = rights.user;
          if (join.user === null && !this._tabs.named) return this._tabs.dissent(this);
          this._expect(channel, rights);
          const { name, only, rewind, cursor } = channel;
          channel.start();
          this._tabs.post({ op: "join", key: join.key, user: join.user, name, only, rewind, cursor });
        },
        (error) => {
          if (this.closed || this._joins.get(channel) !== join) return;
          this._forget(channel);
          this.refused(channel, error);
        },
      );
    }

    /** Ask the gateway whether this tab may read a channel, and as whom: who is signed in here need not be who is there. */
    async _rights({ name }) {
      const control = new AbortController();
      const path = `channels/${encodeURIComponent(name)}/events?wait=0`;
      const { headers } = await this.connection.fetch(path, { stream: true, signal: control.signal });
      control.abort();
      const seconds = headers.get("tokenwire-rights");
      return { user: headers.get("tokenwire-user"), seconds: seconds === null ? null : Number(seconds) };
    }

    /** The leader's line lasts longer than the rights of this tab. */
    _expect(channel, { seconds }) {
      const join = this._joins.get(channel);
      clearTimeout(join.timer);
      if (seconds === null) return;
      join.timer = setTimeout(() => this._askAgain(channel, true), Math.min(Math.max(1, seconds) * 1000, 2 ** 31 - 1));
    }

    /** See whether this tab may still read a channel, as who it was. `due`: what it was granted has run out. */
    async _askAgain(channel, due = false) {
      const join = this._joins.get(channel);
      try {
        const rights = await this._rights(channel);
        if (this.closed || this._joins.get(channel) !== join) return;
        if (rights.user === join.user) this._expect(channel, rights);
        else this.connection.rejoin(channel);
      } catch (error) {
        if (this.closed || this._joins.get(channel) !== join) return;
        if (!due && ![401, 403, 404].includes(error.status)) return; // which says nothing of rights
        this.leave(channel);
        this.refused(channel, error);
      }
    }

    _forget(channel) {
      const join = this._joins.get(channel);
      clearTimeout(join?.timer);
      this._joins.delete(channel);
      return join;
    }

    leave(channel) {
      const join = this._forget(channel);
      if (join !== undefined) this._tabs.post({ op: "leave", key: join.key });
    }

    close() {
      super.close();
      for (const { timer } of this._joins.values()) clearTimeout(timer);
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
      else if (message.op === "reply") {
        const channel = this._asked[message.id];
        this._throttled.delete(channel);
        channel.joinedAs?.(message.result.user);
      }
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
