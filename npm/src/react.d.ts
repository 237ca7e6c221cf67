// Types of tokenwire/react.
import type { ComponentPropsWithoutRef, ElementType, ReactElement, ReactNode } from "react";
import type { CancelOutcome, Channel, ChannelOptions, ConnectOptions, Connection, Response, Status, TokenwireError } from "./tokenwire.js";

export interface TokenwireProviderProps {
  /** Where the gateway is mounted, such as "/stream". */
  url?: string | URL;
  /** Of `connect`; read when the url changes. */
  options?: ConnectOptions;
  /** A connection of the page's own, in place of `url`. */
  connection?: Connection;
  children?: ReactNode;
}

/** Gives the components within a gateway. */
export function TokenwireProvider(props: TokenwireProviderProps): ReactElement;

export interface UseChannelOptions extends ChannelOptions {
  /** In place of the provider's. */
  connection?: Connection;
}

export interface ChannelView {
  /** In the order in which they began. */
  readonly responses: readonly Response[];
  readonly status: Status;
  /** What had happened before has been received. */
  readonly ready: boolean;
  /** Why the gateway refuses the channel for good. */
  readonly error: TokenwireError | null;
  send(name: string, data?: unknown, options?: { id?: string }): Promise<{ id: string; cursor: string | null }>;
  cancel(responseId: string, reason?: string): Promise<CancelOutcome>;
}

/** Watch a channel: its name, with options, or a `Channel` that the page has opened. */
export function useChannel(channel: string | Channel, options?: UseChannelOptions): ChannelView;

/** One response of a channel, by its id; without one, the newest. Null where there is none (yet). */
export function useResponse(channel: string | Channel, id?: string | null, options?: UseChannelOptions): Response | null;

export interface UseInputOptions {
  /** The name of the messages: "message", if none is given. */
  name?: string;
  connection?: Connection;
}

export interface InputView {
  /** Resolves to null where sending failed; then `error` says why, and the same data again has the same id. */
  send(data: unknown): Promise<{ id: string; cursor: string | null } | null>;
  readonly sending: boolean;
  readonly error: TokenwireError | null;
}

/** Send messages to the agent of a channel. */
export function useInput(channel: string | Channel, options?: UseInputOptions): InputView;

export interface TokenStreamOwnProps<E extends ElementType = "div"> {
  channel: string | Channel;
  /** An id; without one, the newest response is shown. */
  response?: string | null;
  options?: UseChannelOptions;
  /** The element around the text: "div", if none is given. */
  as?: E;
  kind?: "text" | "reasoning" | "refusal";
  /** Shown before there is a response. */
  fallback?: ReactNode;
  /** Renders the response in place of its text. */
  children?: (response: Response) => ReactNode;
}

export type TokenStreamProps<E extends ElementType = "div"> = TokenStreamOwnProps<E> &
  Omit<ComponentPropsWithoutRef<E>, keyof TokenStreamOwnProps>;

/** The text of a response as it comes. */
export function TokenStream<E extends ElementType = "div">(props: TokenStreamProps<E>): ReactElement;
