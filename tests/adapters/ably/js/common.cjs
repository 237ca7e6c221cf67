'use strict';
// What the scripts share: clients of the local server, faults, and waiting.

const assert = require('node:assert/strict');
const Ably = require('ably');

const port = Number(process.env.ABLY_PORT);
const control = `http://127.0.0.1:${process.env.ABLY_CONTROL}`;
const binary = process.env.ABLY_ENCODING !== 'json';
const open = [];

/** A realtime client that gets its tokens by authUrl, as a page does. */
function realtime(clientId, options = {}) {
  const client = new Ably.Realtime({
    endpoint: '127.0.0.1',
    port,
    tls: false,
    authUrl: `${control}/auth`,
    authParams: clientId ? { clientId } : {},
    useBinaryProtocol: binary,
    disconnectedRetryTimeout: 100,
    fallbackHosts: [],
    logLevel: 0,
    ...options,
  });
  open.push(client);
  return client;
}

/** Calls a fault of the server by name. */
async function fault(name, args = {}) {
  const answer = await fetch(`${control}/faults/${name}`, { method: 'POST', body: JSON.stringify(args) });
  const body = await answer.json();
  assert.equal(answer.status, 200, JSON.stringify(body));
  return body.result;
}

/** Keeps texts by serial as message-per-response documents it, and remembers what came. */
class Subscriber {
  constructor() {
    this.messages = [];
    this.texts = new Map();
    this.waiting = [];
    this.take = (message) => {
      this.messages.push(message);
      const old = this.texts.get(message.serial) ?? '';
      const appended = message.action === 'message.append';
      this.texts.set(message.serial, appended ? old + message.data : message.data);
      this.waiting = this.waiting.filter((check) => !check());
    };
  }

  get actions() {
    return this.messages.map((message) => message.action.replace('message.', ''));
  }

  until(condition) {
    return new Promise((resolve) => {
      const check = () => condition(this) && (resolve(), true);
      if (!check()) this.waiting.push(check);
    });
  }

  untilText(serial, text) {
    return this.until(() => this.texts.get(serial) === text);
  }
}

function once(emitter, event) {
  return new Promise((resolve) => emitter.once(event, resolve));
}

/** Waits until something holds; fails after a while, with what there is in place of it. */
async function eventually(condition, told = () => '') {
  const end = Date.now() + 90_000;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`still not ${condition}: ${JSON.stringify(told())}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Runs the scenario that the command line names. */
async function main(scenarios) {
  const name = process.argv[2];
  try {
    await scenarios[name]();
    process.stdout.write(`done ${name}\n`);
  } catch (error) {
    process.stderr.write(`${error.stack ?? error}\n${JSON.stringify(error)}\n`);
    process.exitCode = 1;
  }
  for (const client of open) client.close();
  // A client that cannot close must not keep the test waiting.
  setTimeout(() => process.exit(), 200).unref();
}

module.exports = { Ably, Subscriber, assert, binary, control, eventually, fault, main, once, port, realtime };
