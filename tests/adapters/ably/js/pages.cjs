'use strict';
// Pages as Ably's documentation writes them, with nothing of tokenwire in them, on streams that
// tokenwire publishes. Steps come on stdin, one a line; answers go to stdout as JSON, one a line.

const readline = require('node:readline');
const { eventually, realtime } = require('./common.cjs');

const name = 'ai:chat';

/** docs: message-per-response, "Subscribing to token streams" (keyed by serial). */
class Responses {
  constructor() {
    this.responses = new Map();
    this.headers = new Map();
    this.take = (message) => {
      switch (message.action) {
        case 'message.create':
          this.responses.set(message.serial, message.data);
          break;
        case 'message.append':
          this.responses.set(message.serial, (this.responses.get(message.serial) || '') + message.data);
          break;
        case 'message.update':
          this.responses.set(message.serial, message.data);
          break;
      }
      this.headers.set(message.serial, message.extras?.headers ?? {});
    };
  }

  // docs: message-per-response, "Hydrating with history"
  async history(channel) {
    for (let page = await channel.history({ untilAttach: true }); page; page = page.hasNext() ? await page.next() : null) {
      for (const message of page.items) {
        if (message.name !== 'response' || this.responses.has(message.serial)) continue;
        this.responses.set(message.serial, message.data);
        this.headers.set(message.serial, message.extras?.headers ?? {});
      }
    }
  }

  /** The texts by responseId; a long one goes on in further messages. */
  get texts() {
    const texts = {};
    for (const serial of [...this.responses.keys()].sort()) {
      const { responseId } = this.headers.get(serial);
      texts[responseId] = (texts[responseId] ?? '') + this.responses.get(serial);
    }
    return texts;
  }

  ended(count) {
    return [...this.headers.values()].filter((h) => h.status !== 'streaming').length >= count;
  }
}

/** docs: message-per-token, "Token stream with multiple responses" and its recovery. */
class Tokens {
  constructor() {
    this.texts = {};
    this.over = new Set();
  }

  async subscribe(channel) {
    const id = (message) => message.extras?.headers?.responseId;
    await channel.subscribe('start', (message) => (this.texts[id(message)] = ''));
    await channel.subscribe('token', (message) => (this.texts[id(message)] = (this.texts[id(message)] ?? '') + message.data));
    await channel.subscribe('response-complete', (message) => (this.texts[id(message)] = message.data));
    await channel.subscribe('stop', (message) => this.over.add(id(message)));
  }

  ended(count) {
    return this.over.size >= count;
  }
}

/**
 * docs: message-per-token, "Token stream with multiple responses" with its recovery; `all` is what
 * "Continuous token stream" prints. Neither has an end: that they wait for it is the test's.
 */
class Stream {
  constructor() {
    this.texts = {};
    this.all = '';
    this.over = new Set();
  }

  async subscribe(channel) {
    const id = (message) => message.extras?.headers?.responseId;
    await channel.subscribe('token', (message) => {
      this.all += message.data;
      this.texts[id(message)] = (this.texts[id(message)] ?? '') + message.data;
      if (message.extras.headers.status !== 'streaming') this.over.add(id(message));
    });
    await channel.subscribe('response-complete', (message) => (this.texts[id(message)] = message.data));
    await channel.subscribe(['start', 'stop'], (message) => (this.all += `unexpected ${message.name}`));
  }

  ended(count) {
    return this.over.size >= count;
  }
}

const pages = {};

async function open(pattern, how) {
  const params = how === 'rewind' ? { rewind: '2m' } : undefined;
  const channel = realtime(`page-${how}`).channels.get(name, params && { params });
  if (pattern === 'tokens' || pattern === 'stream') {
    pages[how] = pattern === 'tokens' ? new Tokens() : new Stream();
    await pages[how].subscribe(channel);
    return;
  }
  const page = (pages[how] = new Responses());
  await channel.subscribe('response', page.take);
  if (how === 'history') await page.history(channel);
}

const steps = {
  open,
  async publish(messageName, json) {
    await realtime('visitor').channels.get(name).publish({ name: messageName, ...JSON.parse(json) });
  },
  async all(how) {
    return pages[how].all;
  },
  async texts(count) {
    await eventually(() => Object.values(pages).every((page) => page.ended(Number(count))), () => pages);
    return Object.fromEntries(Object.entries(pages).map(([how, page]) => [how, page.texts]));
  },
};

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [step, ...rest] = line.split('\t');
    try {
      process.stdout.write(`${JSON.stringify({ done: (await steps[step](...rest)) ?? null })}\n`);
    } catch (error) {
      process.stdout.write(`${JSON.stringify({ error: `${error.stack ?? error}` })}\n`);
    }
  }
  process.exit();
})();
