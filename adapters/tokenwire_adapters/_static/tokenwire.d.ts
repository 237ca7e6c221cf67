// Types of tokenwire.js. Field names are those of the wire.

export type State = "streaming" | "complete" | "cancelled" | "failed" | "abandoned";

/** A typed piece of a response. */
export interface Part {
  /** "text", "reasoning", "refusal", "tool_call", "tool_result", "source", "file", "data" or another. */
  readonly kind: string;
  /** For a tool call: its arguments, as the model wrote them. */
  readonly text: string;
  readonly name: string | null;
  readonly call_id: string | null;
  readonly data: unknown;
  /** Of a tool call: the model's provider runs the tool itself, so neither the agent nor a page is to. */
  readonly provider_executed: boolean;
}

export interface ToolResult {
  readonly call_id: string;
  readonly name: string | null;
  readonly output: unknown;
  readonly error: string | null;
}

/** What `Response` is made of, and what history holds. */
export interface ResponseFields {
  id: string;
  channel?: string;
  run?: string | null;
  state?: State;
  parts?: Part[];
  tool_results?: ToolResult[];
  finish_reason?: string | null;
  usage?: Record<string, unknown> | null;
  error?: string | null;
  metadata?: Record<string, unknown>;
  started_at?: number | null;
  ended_at?: number | null;
}

/** One reply of a model, as it stands. Never changes: a new one is made. */
export class Response {
  constructor(fields: ResponseFields);
  readonly id: string;
  readonly channel: string;
  readonly run: string | null;
  readonly state: State;
  readonly parts: readonly Part[];
  readonly tool_results: readonly ToolResult[];
  readonly finish_reason: string | null;
  readonly usage: Record<string, unknown> | null;
  readonly error: string | null;
  readonly metadata: Record<string, unknown>;
  /** Milliseconds since 1970. */
  readonly started_at: number | null;
  readonly ended_at: number | null;
  /** The text parts, joined. */
  readonly text: string;
  readonly reasoning: string;
  readonly refusal: string;
  readonly tool_calls: readonly Part[];
  readonly ended: boolean;
}

interface Base {
  readonly cursor?: string;
  readonly ts?: number;
  readonly v?: number;
}
export interface StartEvent extends Base { readonly type: "start"; readonly response_id: string; readonly channel?: string; readonly run?: string; readonly metadata?: Record<string, unknown> }
export interface PartEvent extends Base { readonly type: "part"; readonly response_id: string; readonly part: number; readonly kind: string; readonly name?: string; readonly call_id?: string; readonly data?: unknown; readonly provider_executed?: boolean }
/** `offset` is in code points. */
export interface DeltaEvent extends Base { readonly type: "delta"; readonly response_id: string; readonly part: number; readonly kind: string; readonly offset: number; readonly text: string }
export interface SnapshotEvent extends Base { readonly type: "snapshot"; readonly response: ResponseFields }
export interface EndEvent extends Base { readonly type: "end"; readonly response_id: string; readonly state: State; readonly finish_reason?: string; readonly usage?: Record<string, unknown>; readonly error?: string }
export interface ToolResultEvent extends Base { readonly type: "tool_result"; readonly call_id: string; readonly response_id?: string; readonly run?: string; readonly name?: string; readonly output?: unknown; readonly error?: string }
export interface DataEvent extends Base { readonly type: "data"; readonly name: string; readonly data?: unknown; readonly id?: string; readonly response_id?: string; readonly run?: string; readonly transient?: boolean }
export interface CancelEvent extends Base { readonly type: "cancel"; readonly response_id: string; readonly reason?: string; readonly id?: string }
export interface InputEvent extends Base { readonly type: "input"; readonly name: string; readonly data?: unknown; readonly id?: string; readonly sender?: string }

export interface EventsByType {
  start: StartEvent;
  part: PartEvent;
  delta: DeltaEvent;
  snapshot: SnapshotEvent;
  end: EndEvent;
  tool_result: ToolResultEvent;
  data: DataEvent;
  cancel: CancelEvent;
  input: InputEvent;
}
export type Event = EventsByType[keyof EventsByType];

/** `code` is one of the gateway's (docs/gateway.md), or "network", "timeout" or "closed". */
export class TokenwireError extends Error {
  readonly code: string;
  readonly status: number | null;
  /** Seconds. */
  readonly retryAfter: number | null;
}

/** Something before an event is missing. */
export class GapError extends Error {
  readonly responseId: string;
}

/** Folds the events of one response. */
export class Assembler {
  constructor(id: string);
  readonly id: string;
  readonly state: State | null;
  /** Code points in all parts together. */
  readonly length: number;
  readonly response: Response;
  /** Says whether the event changed anything; throws `GapError`, and then nothing has changed. */
  apply(event: Event, channel?: string): boolean;
}

/** Folds the events of a channel. */
export class Transcript implements Iterable<Response> {
  apply(event: Event): Response | null;
  get(id: string): Response | undefined;
  has(id: string): boolean;
  readonly size: number;
  clear(): void;
  [Symbol.iterator](): Iterator<Response>;
}

export type Status = "idle" | "connecting" | "live" | "waiting" | "paused" | "closed";

export interface ConnectOptions {
  /** A token for the gateway, or a function that gets one: asked again before it expires. */
  token?: string | null | (() => string | null | Promise<string | null>);
  /** "auto" (the default) tries a WebSocket first. */
  transport?: "auto" | "websocket" | "sse";
  /**
   * Whether the tabs of an origin share one connection (true), if the gateway knows that they are of one user. A string: only with
   * tabs that give the same, also where the gateway does not know: the name of who is signed in, say. Needs navigator.locks and
   * BroadcastChannel; without them, each tab has its own.
   */
  share?: boolean | string;
  /** Milliseconds before the first reconnect (250), doubled each time up to `maxDelay` (15,000). */
  minDelay?: number;
  maxDelay?: number;
  /** Milliseconds without a sign of the server after which a line counts as dead (45,000). */
  silence?: number;
  connectTimeout?: number;
  /** Milliseconds that `cancel`, `send` and `history` may take in all (30,000). */
  requestTimeout?: number;
  /** For gateways of another origin that know users by a cookie. */
  credentials?: RequestCredentials;
  fetch?: typeof fetch;
  WebSocket?: typeof WebSocket;
}

export interface ChannelOptions {
  /** Go on right after this cursor. */
  after?: string;
  /** Start in the past: "30s", "2m", a count, or "all". */
  rewind?: string | number;
  /** Only this response; the channel closes when it has ended. */
  response?: string;
  /** Ids of responses that the page has already: nothing is told of them. */
  known?: Iterable<string>;
}

export interface CancelOutcome {
  readonly response_id: string;
  readonly state: State | "pending";
  readonly acknowledged: boolean;
}

export interface ChannelEvents extends EventsByType {
  /** A response as it stands, whenever it changed. */
  response: Response;
  /** Every event, as it came. */
  event: Event;
  /** All that had happened has been told; what follows is live. */
  ready: void;
  /** What was told so far is no more: the log was lost or replaced. Everything comes anew. */
  reset: string;
  /** The gateway refuses for good; the channel is closed next. */
  error: TokenwireError;
  close: void;
}

/** One channel, watched. */
export class Channel {
  private constructor();
  readonly name: string;
  readonly connection: Connection;
  /** Where to go on: give it to `after` elsewhere. */
  readonly cursor: string | null;
  readonly ready: boolean;
  readonly closed: boolean;
  readonly error: TokenwireError | null;
  readonly status: Status;
  /** In the order in which they were first seen. */
  readonly responses: Response[];
  /** Grows whenever `responses` changes: a snapshot for `useSyncExternalStore`. */
  readonly version: number;
  get(id: string): Response | undefined;
  on<K extends keyof ChannelEvents>(type: K, listener: (value: ChannelEvents[K]) => void): () => void;
  once<K extends keyof ChannelEvents>(type: K, listener: (value: ChannelEvents[K]) => void): () => void;
  /** Stop a response; resolves to how it stands. */
  cancel(responseId: string, reason?: string): Promise<CancelOutcome>;
  /** Send a message to the agent. The same id again puts nothing new into the channel. */
  send(name: string, data?: unknown, options?: { id?: string }): Promise<{ id: string; cursor: string | null }>;
  /** Newest first; give `next` as `before` to read on. */
  history(options?: { limit?: number; before?: string }): Promise<{ items: Response[]; next: string | null }>;
  close(): void;
}

/** Many channels over one socket; where sockets do not work, over event streams. */
export class Connection {
  constructor(baseUrl: string | URL, options?: ConnectOptions);
  readonly status: Status;
  /** "shared": that of another tab. */
  readonly transport: "websocket" | "sse" | "shared" | null;
  /** How often a line that had worked was lost. */
  readonly reconnects: number;
  channel(name: string, options?: ChannelOptions): Channel;
  on(type: "status", listener: (status: Status) => void): () => void;
  on(type: "error", listener: (error: TokenwireError) => void): () => void;
  once(type: "status", listener: (status: Status) => void): () => void;
  /** Let go of the line until `resume`; channels stay as they are. */
  pause(): void;
  resume(): void;
  close(): void;
}

/** Connect to a gateway mounted at `baseUrl`, such as "/stream". */
export function connect(baseUrl: string | URL, options?: ConnectOptions): Connection;

/** Code points of a string, which is what offsets count. */
export function codePoints(text: string): number;

/** Splits text into server-sent events. */
export class SseParser {
  constructor(onEvent: (message: { type: string; data: string; id: string | null }) => void);
  readonly lastId: string | null;
  push(text: string): void;
}
