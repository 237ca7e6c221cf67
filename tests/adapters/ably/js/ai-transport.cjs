'use strict';
// Ably's own pair, unmodified, against the local server: an agent session, client sessions,
// and the Vercel codec between them (docs: ai-transport/api/javascript/core/*-session).

const { assert, eventually, fault, main, realtime } = require('./common.cjs');
const { Invocation, createAgentSession, createClientSession } = require('@ably/ai-transport');
const { createUIMessageCodec } = require('@ably/ai-transport/vercel');

const channelName = 'ai:conversation';
const codec = createUIMessageCodec();
const tokens = Array.from({ length: 120 }, (_, index) => ` tok${index}`);
const text = tokens.join('');

class Gate {
  constructor() {
    this.passed = new Promise((resolve) => {
      this.open = resolve;
    });
  }
}

/** Chunks of one reply, as the AI SDK's toUIMessageStream gives them. */
async function* reply({ gate, at = 60, endless = false, signal } = {}) {
  yield { type: 'start' };
  yield { type: 'start-step' };
  yield { type: 'reasoning-start', id: 'r' };
  for (const delta of ['Let me', ' think.']) yield { type: 'reasoning-delta', id: 'r', delta };
  yield { type: 'reasoning-end', id: 'r' };
  yield { type: 'tool-input-start', toolCallId: 'c1', toolName: 'weather' };
  for (const inputTextDelta of ['{"city"', ':"Oslo"}']) {
    yield { type: 'tool-input-delta', toolCallId: 'c1', inputTextDelta };
  }
  yield { type: 'tool-input-available', toolCallId: 'c1', toolName: 'weather', input: { city: 'Oslo' } };
  yield { type: 'tool-output-available', toolCallId: 'c1', output: { degrees: 4 } };
  yield { type: 'text-start', id: 't' };
  for (const [index, delta] of tokens.entries()) {
    if (gate && index === at) await gate.passed;
    yield { type: 'text-delta', id: 't', delta };
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  while (endless && !signal.aborted) {
    yield { type: 'text-delta', id: 't', delta: ' more' };
    // Slow enough that a busy server keeps up, and the cancel does not wait behind the text.
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  yield { type: 'text-end', id: 't' };
  yield { type: 'finish-step' };
  yield { type: 'finish', finishReason: 'stop' };
}

/** The agent's route: what an HTTP handler would do with the invocation it is sent. */
async function serve(invocation, options = {}) {
  const session = createAgentSession({ client: realtime('agent'), channelName, codec });
  await session.connect();
  const run = session.createRun(Invocation.fromJSON(invocation), {}, {});
  while (run.view.hasOlder()) await run.view.loadOlder();
  await run.start();
  const heard = run.view.getMessages().map(({ message }) => message);
  const result = await run.pipe(reply({ ...options, signal: run.abortSignal }));
  await run.end({ reason: result.reason });
  await session.end();
  return { heard, reason: result.reason };
}

async function page(clientId = 'user') {
  const client = realtime(clientId);
  const session = createClientSession({ client, channelName, codec });
  await session.connect();
  return session;
}

function ask(session, question = 'How is the weather?') {
  const parts = [{ type: 'text', text: question }];
  return session.view.send(codec.createUserMessage({ id: crypto.randomUUID(), role: 'user', parts }));
}

function shown(session) {
  return session.view.getMessages().map(({ message }) => message);
}

function textOf(message) {
  return message?.parts.filter((part) => part.type === 'text').map((part) => part.text).join('') ?? '';
}

function answered(session, expected = text) {
  return eventually(() => shown(session).some((m) => m.role === 'assistant' && textOf(m) === expected));
}

function checkWhole(session, questions = 1) {
  const messages = shown(session);
  assert.deepEqual(messages.map((m) => m.role), Array(questions).fill(['user', 'assistant']).flat());
  const { parts } = messages.at(-1);
  assert.equal(textOf(messages.at(-1)), text);
  assert.equal(parts.find((part) => part.type === 'reasoning').text, 'Let me think.');
  const tool = parts.find((part) => part.type === 'tool-weather' || part.toolName === 'weather');
  assert.deepEqual(tool.input, { city: 'Oslo' });
  assert.deepEqual(tool.output, { degrees: 4 });
  assert.equal(tool.state, 'output-available');
}

main({
  async streaming() {
    const session = await page();
    const other = await page('other-device');
    const run = await ask(session);
    const { heard, reason } = await serve(run.toInvocation().toJSON());
    assert.equal(reason, 'complete');
    assert.deepEqual(heard.map(textOf), ['How is the weather?']);
    await run.started;
    await answered(session);
    await answered(other);
    await eventually(() => run.status === 'complete');
    checkWhole(session);
    checkWhole(other);
  },

  async reloading() {
    const session = await page();
    const gate = new Gate();
    const run = await ask(session);
    const agent = serve(run.toInvocation().toJSON(), { gate });
    const half = tokens.slice(0, 60).join('');
    await answered(session, half);
    await session.close();
    const again = await page();
    while (again.view.hasOlder()) await again.view.loadOlder();
    await answered(again, half);
    gate.open();
    await agent;
    await answered(again);
    checkWhole(again);

    // Another turn on top, then a page that knows it from history alone.
    const second = await ask(again, 'And tomorrow?');
    await serve(second.toInvocation().toJSON());
    const fresh = await page('late-device');
    while (fresh.view.hasOlder()) await fresh.view.loadOlder();
    await eventually(() => shown(fresh).length === 4);
    checkWhole(fresh, 2);
  },

  async cancelling() {
    const session = await page();
    const run = await ask(session);
    const agent = serve(run.toInvocation().toJSON(), { endless: true });
    await run.started;
    await eventually(() => textOf(shown(session).at(-1)).endsWith(' more'));
    await run.cancel();
    assert.equal((await agent).reason, 'cancelled');
    await eventually(() => run.status === 'cancelled');
    const seen = textOf(shown(session).at(-1));
    assert.ok(seen.startsWith(text));
    const fresh = await page('late-device');
    while (fresh.view.hasOlder()) await fresh.view.loadOlder();
    await eventually(() => textOf(shown(fresh).at(-1)) === seen);
    // By the run's id too, as a page does that did not ask.
    const second = await ask(fresh, 'Again?');
    const next = serve(second.toInvocation().toJSON(), { endless: true });
    await second.started;
    await session.cancel(second.runId);
    assert.equal((await next).reason, 'cancelled');
  },

  async dropping() {
    const session = await page();
    const gate = new Gate();
    const run = await ask(session);
    const agent = serve(run.toInvocation().toJSON(), { gate });
    await answered(session, tokens.slice(0, 60).join(''));
    await fault('disconnect', { client_id: 'user' });
    gate.open();
    await fault('disconnect_every', { seconds: 0.06, client_id: 'user' });
    assert.equal((await agent).reason, 'complete');
    await fault('disconnect_every', { seconds: 0 });
    await answered(session);
    checkWhole(session);
  },

  // Refused appends: the encoder repairs them with a full update (wire-protocol.mdx).
  async refusing() {
    // The encoder looks at its appends only at the end; until then Node takes a refused one for
    // an error that nobody handles, and would end the process.
    process.on('unhandledRejection', (error) => assert.equal(error.code, 50000));
    const session = await page();
    const gate = new Gate();
    const run = await ask(session);
    const agent = serve(run.toInvocation().toJSON(), { gate });
    await answered(session, tokens.slice(0, 60).join(''));
    await fault('nack_next', { count: 3 });
    gate.open();
    assert.equal((await agent).reason, 'complete');
    // A page that was there has seen the stream closed with its gap, and ignores the update that
    // comes after: that is this SDK's doing. A page that loads history gets the whole.
    const fresh = await page('late-device');
    while (fresh.view.hasOlder()) await fresh.view.loadOlder();
    await answered(fresh);
    checkWhole(fresh);
  },
});
