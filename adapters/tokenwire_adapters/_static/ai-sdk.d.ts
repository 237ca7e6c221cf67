// Types of ai-sdk.js: a transport for `useChat` of the AI SDK. See docs/ui-protocols.md.
import type { ChatTransport, UIMessage } from "ai";

type Resolvable<T> = T | (() => T | Promise<T>);

export interface TokenwireChatTransportOptions {
  /** The path of `ChatRoutes`; "/api/chat" by default. */
  api?: string;
  headers?: Resolvable<Record<string, string> | Headers | undefined>;
  /** Fields to send with each message, beside the chat's own. */
  body?: Resolvable<object | undefined>;
  credentials?: Resolvable<RequestCredentials | undefined>;
  fetch?: typeof globalThis.fetch;
  /** Send only the last message: the agent gets the rest from the channel. */
  lastMessageOnly?: boolean;
  /** Milliseconds before the first reconnect, doubled each time up to `maxDelay`; 250 and 15,000 by default. */
  minDelay?: number;
  maxDelay?: number;
  /** Milliseconds without anything new, after which a broken line is an error; 300,000 by default. */
  giveUpAfter?: number;
  /** Milliseconds without a byte, after which a line counts as broken; 45,000 by default. */
  silence?: number;
}

export interface StopOutcome {
  /** Whether nothing of the answer comes any more. */
  success: boolean;
  /** The run that was stopped; null where none was under way. */
  run: string | null;
  state: string | null;
}

/** A transport that takes up a broken line where it broke, and can stop the agent from any tab. */
export declare class TokenwireChatTransport<M extends UIMessage = UIMessage> implements ChatTransport<M> {
  constructor(options?: TokenwireChatTransportOptions);
  readonly resumeStreamIsReplay: true;
  sendMessages: ChatTransport<M>["sendMessages"];
  reconnectToStream: ChatTransport<M>["reconnectToStream"];
  /**
   * Stop the agent of a chat, whichever tab asked it, and wherever it runs; every tab's stream ends.
   * Rejects with a `TokenwireError` where the server could not be told.
   */
  stop(chatId: string, options?: { headers?: Record<string, string> | Headers; signal?: AbortSignal }): Promise<StopOutcome>;
}
