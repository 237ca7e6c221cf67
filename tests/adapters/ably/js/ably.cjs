'use strict';
// The official SDK against the local server: each scenario asserts what Ably documents.

const { Ably, Subscriber, assert, binary, control, eventually, fault, main, once, port, realtime } =
  require('./common.cjs');

async function pair(channel = 'ai:x', params = undefined, options = {}) {
  const agent = realtime('agent', { echoMessages: false });
  const watcher = realtime('watcher', options);
  const seen = new Subscriber();
  await watcher.channels.get(channel, params && { params }).subscribe(seen.take);
  return { agent, watcher, seen, channel: agent.channels.get(channel) };
}

async function create(channel, data = '', extras = undefined) {
  return (await channel.publish({ name: 'response', data, extras })).serials[0];
}

main({
  // docs: message-per-response, "Publishing tokens" and "Subscribing to token streams"
  async stream() {
    const { watcher, seen, channel } = await pair();
    const extras = { headers: { responseId: 'r1' } };
    const serial = await create(channel, '', extras);
    const tokens = Array.from({ length: 200 }, (_, index) => ` t${index}`);
    const results = await Promise.all(tokens.map((data) => channel.appendMessage({ serial, data, extras })));
    await seen.untilText(serial, tokens.join(''));
    assert.deepEqual(seen.actions.slice(0, 3), ['create', 'update', 'append']);
    assert.ok(seen.actions.length < 30, 'rolled up');
    for (const message of seen.messages) {
      assert.equal(message.serial, serial);
      assert.equal(message.name, 'response');
      assert.equal(message.clientId, 'agent');
      assert.deepEqual(message.extras, extras);
    }
    const versions = seen.messages.map((message) => message.version.serial);
    assert.deepEqual(versions, [...versions].sort());
    assert.equal(results.at(-1).versionSerial, versions.at(-1));
    await channel.updateMessage({ serial, data: 'whole', extras }, { description: 'after a failure' });
    await seen.untilText(serial, 'whole');
    assert.equal(seen.messages.at(-1).action, 'message.update');
    assert.equal(seen.messages.at(-1).version.description, 'after a failure');
    await channel.deleteMessage({ serial });
    await seen.until(() => seen.actions.at(-1) === 'delete');
    const message = await watcher.channels.get('ai:x').getMessage(serial);
    assert.equal(message.action, 'message.delete');
    const { items } = await watcher.channels.get('ai:x').getMessageVersions(serial);
    assert.deepEqual(items.map((item) => item.action), ['message.create', 'message.update', 'message.delete']);
  },

  // docs: channels/options/rewind; message-per-response, "Using rewind for recent history"
  async rewind() {
    const agent = realtime('agent');
    const channel = agent.channels.get('ai:x');
    const done = await create(channel, 'done');
    const serial = await create(channel, 'a');
    await channel.appendMessage({ serial, data: 'b' });
    for (const rewind of ['2m', '2']) {
      const late = realtime('late');
      const seen = new Subscriber();
      const reader = late.channels.get('ai:x', { params: { rewind } });
      const change = await reader.subscribe(seen.take);
      assert.equal(change.hasBacklog, true);
      assert.equal(change.resumed, false);
      assert.deepEqual(reader.params, { rewind });
      await seen.until(() => seen.messages.length === 2);
      assert.deepEqual(seen.actions, ['create', 'update']);
      assert.equal(seen.texts.get(done), 'done');
      assert.ok(seen.texts.get(serial).startsWith('ab'));
      const before = seen.texts.get(serial);
      await channel.appendMessage({ serial, data: 'c' });
      await seen.untilText(serial, `${before}c`);
    }
    const one = new Subscriber();
    await realtime('one').channels.get('ai:x', { params: { rewind: '1' } }).subscribe(one.take);
    await one.until(() => one.messages.length === 1);
    assert.equal(one.messages[0].serial, serial);
    await assert.rejects(
      realtime('bad').channels.get('ai:x', { params: { rewind: 'soon' } }).attach(),
      (error) => error.code === 40003,
    );
  },

  // docs: storage-history/history, "Continuous history"; spec RTL10b
  async history() {
    const agent = realtime('agent');
    const channel = agent.channels.get('ai:x');
    const published = [];
    for (let index = 0; index < 24; index += 1) published.push(await create(channel, String(index)));
    const serial = await create(channel, 'a');
    published.push(serial);
    await channel.appendMessage({ serial, data: 'b' });
    const reader = realtime('reader').channels.get('ai:x');
    const seen = new Subscriber();
    await reader.subscribe(seen.take);
    await create(channel, 'live');
    await seen.until(() => seen.messages.length === 1);
    const past = [];
    let page = await reader.history({ untilAttach: true, limit: 10 });
    for (let pages = 1; page; pages += 1) {
      past.push(...page.items);
      if (pages === 1) await create(channel, 'meanwhile');
      page = page.hasNext() ? await page.next() : null;
      if (!page) assert.equal(pages, 3);
    }
    assert.deepEqual(past.map((message) => message.serial), published.reverse());
    assert.equal(past[0].action, 'message.update');
    assert.equal(past[0].data, 'ab');
    assert.equal(past[1].action, 'message.create');
    const forwards = await reader.history({ direction: 'forwards', limit: 1 });
    assert.equal(forwards.items[0].data, '0');
    const first = await (await forwards.next()).first();
    assert.equal(first.items[0].data, '0');
    await assert.rejects(realtime('x').channels.get('ai:y').history({ untilAttach: true }));
  },

  // docs: connect/states, "Resume"; spec RTN15, RTL2f
  async resume() {
    const { watcher, seen, channel } = await pair();
    const serial = await create(channel, 'a');
    await channel.appendMessage({ serial, data: 'b' });
    await seen.untilText(serial, 'ab');
    const { id, key } = watcher.connection;
    const again = once(watcher.channels.get('ai:x'), 'attached');
    await fault('disconnect', { client_id: 'watcher' });
    for (const data of ['c', 'd', 'e']) await channel.appendMessage({ serial, data });
    assert.equal((await again).resumed, true);
    await seen.untilText(serial, 'abcde');
    assert.equal(watcher.connection.id, id);
    assert.notEqual(watcher.connection.key, key);

    // A forgotten connection comes back under a new id; its channels go on (errors, 80018).
    const back = once(watcher.connection, 'connected');
    await fault('forget_connections');
    const change = await back;
    assert.equal(change.reason.code, 80008);
    assert.notEqual(watcher.connection.id, id);
    await channel.appendMessage({ serial, data: 'f' });
    await seen.untilText(serial, 'abcdef');

    // What the channel no longer has is announced: resumed is false (RTL12, errors, 90003).
    const lost = once(watcher.channels.get('ai:x'), 'attached');
    await fault('forget_connections', { continuity: false });
    const loss = await lost;
    assert.equal(loss.resumed, false);
    assert.equal(loss.reason.code, 90003);
  },

  // spec RTN16: a new client takes over a connection by its recovery key
  async recover() {
    const { watcher, seen, channel } = await pair('ai:x', undefined, { disconnectedRetryTimeout: 1e6 });
    await create(channel, 'before');
    await seen.until(() => seen.messages.length === 1);
    const recover = watcher.connection.createRecoveryKey();
    const { id } = watcher.connection;
    // A page that is gone does not come back by itself: its retry meets closed doors.
    const gone = (async () => {
      await once(watcher.connection, 'connecting');
      await once(watcher.connection, 'disconnected');
    })();
    await fault('refuse');
    await fault('disconnect', { client_id: 'watcher' });
    await gone;
    await fault('refuse', { refusing: false });
    await create(channel, 'missed');
    const heir = realtime('watcher', { recover });
    await once(heir.connection, 'connected');
    assert.equal(heir.connection.id, id);
    const got = new Subscriber();
    await heir.channels.get('ai:x').subscribe(got.take);
    await got.until(() => got.messages.length === 1);
    assert.equal(got.messages[0].data, 'missed');
  },

  // spec RTP: enter, sync, update, leave
  async presence() {
    const agent = realtime('agent');
    const mine = agent.channels.get('ai:x').presence;
    await mine.enter({ state: 'thinking' });
    const watcher = realtime('watcher');
    const theirs = watcher.channels.get('ai:x').presence;
    const events = [];
    await theirs.subscribe((event) => events.push(event.action));
    const members = await theirs.get();
    assert.deepEqual(members.map(({ clientId, data }) => ({ clientId, data })), [
      { clientId: 'agent', data: { state: 'thinking' } },
    ]);
    await mine.update('typing');
    await mine.leave();
    await eventually(() => events.includes('leave'));
    assert.deepEqual(await theirs.get(), []);
    await mine.enter();
    agent.close();
    await eventually(async () => (await theirs.get()).length === 0);
    const { items } = await theirs.history({ direction: 'forwards' });
    assert.deepEqual(items.slice(0, 3).map((event) => event.action), ['enter', 'update', 'leave']);
  },

  // spec RSA8, RSA9, RSA4b, RTN15h2; docs: auth/capabilities
  async auth() {
    const key = process.env.ABLY_KEY;
    const signed = realtime(undefined, { authUrl: undefined, key, useTokenAuth: true, clientId: 'me' });
    await signed.channels.get('ai:x').publish('m', 'by a token that the key asked for');
    await assert.rejects(
      signed.auth.requestToken({}, { key: `${key.split(':')[0]}:wrong` }),
      (error) => error.code === 40101,
    );
    const capability = JSON.stringify({ 'ai:*': ['subscribe'] });
    const reader = realtime('reader', { authParams: { clientId: 'reader', capability } });
    await reader.channels.get('ai:x').attach();
    await assert.rejects(reader.channels.get('ai:x').publish('m', 'no'), (error) => error.code === 40160);
    await assert.rejects(reader.channels.get('other').attach(), (error) => error.code === 40160);
    await assert.rejects(reader.channels.get('ai:x').history(), (error) => error.code === 40160);
    const back = once(signed.connection, 'connected');
    await fault('expire_tokens');
    await back;
    await signed.channels.get('ai:x').publish('m', 'by a new token');
    const renewed = new Promise((resolve) => signed.connection.once('update', resolve));
    await fault('ask_reauth');
    assert.equal((await renewed).current, 'connected');
    const bad = realtime(undefined, { authUrl: undefined, token: 'app.nonsense' });
    // RSA4a: the SDK has no way to renew it, and says so with its own code.
    assert.equal((await once(bad.connection, 'failed')).reason.code, 40171);
  },

  // Refusals and losses: 93002, 40009, 42911, NACKs, unanswered publishes sent again (RTN19a)
  async faults() {
    const { watcher, seen, channel } = await pair();
    await assert.rejects(
      channel.publish('m', 'x'.repeat(70_000)),
      (error) => error.code === 40009,
    );
    const serial = await create(channel, 'x'.repeat(60_000));
    await assert.rejects(
      channel.appendMessage({ serial, data: 'y'.repeat(6_000) }),
      (error) => error.code === 40009 && error.statusCode === 413,
    );
    await fault('nack_next', { count: 1, code: 42911, status: 429 });
    await assert.rejects(channel.publish('m', 'no'), (error) => error.code === 42911);
    await fault('hold_acks');
    const before = seen.messages.length;
    const waiting = [0, 1, 2].map((index) => channel.publish('m', String(index)));
    await seen.until(() => seen.messages.length === before + 3);
    await fault('disconnect', { client_id: 'agent' });
    await fault('hold_acks', { held: false });
    const results = await Promise.all(waiting);
    assert.equal(new Set(results.map((result) => result.serials[0])).size, 3);
    const { items } = await watcher.channels.get('ai:x').history({ limit: 4 });
    assert.deepEqual(items.slice(0, 3).map((item) => item.data), ['2', '1', '0']);
    const plain = realtime('agent').channels.get('plain');
    const other = await create(plain, 'a');
    await assert.rejects(plain.appendMessage({ serial: other, data: 'b' }), (error) => error.code === 93002);
  },

  // REST of the same SDK
  async rest() {
    const client = new Ably.Rest({
      endpoint: '127.0.0.1',
      port,
      tls: false,
      authUrl: `${control}/auth`,
      useBinaryProtocol: binary,
    });
    assert.ok(Math.abs((await client.time()) - Date.now()) < 60_000);
    const channel = client.channels.get('ai:x');
    const { serials } = await channel.publish([{ name: 'm', data: 'a' }, { name: 'm', data: { b: 1 } }]);
    assert.equal(serials.length, 2);
    await channel.appendMessage({ serial: serials[0], data: 'b' });
    const { items } = await channel.history({ direction: 'forwards' });
    assert.deepEqual(items.map((item) => item.data), ['ab', { b: 1 }]);
    assert.deepEqual((await channel.presence.get()).items, []);
    await assert.rejects(channel.getMessage('nothing'), (error) => error.statusCode === 404);
  },
});
