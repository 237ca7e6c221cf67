// A program that uses the client: `tsc --strict` accepts it, and each @ts-expect-error is an error.
import { codePoints, connect, GapError, TokenwireError, Transcript } from "tokenwire";
import type { CancelOutcome, Channel, Connection, DeltaEvent, Event, Part, Response } from "tokenwire";

const connection: Connection = connect("https://stream.example.com", {
  token: async () => "a token",
  transport: "sse",
  share: "user-1",
});
const channel: Channel = connection.channel("chat-42", { rewind: "2m", known: ["r1"] });
const off: () => void = channel.on("response", (response) => {
  const text: string = response.text;
  const parts: readonly Part[] = response.parts;
  console.log(text, parts.length, response.usage?.["output_tokens"]);
  // @ts-expect-error A response never changes.
  response.state = "complete";
});
channel.on("delta", (event: DeltaEvent) => console.log(event.offset + codePoints(event.text)));
channel.on("error", (error) => console.log(error.code, error.status, error.retryAfter));
// @ts-expect-error There is no such event.
channel.on("token", () => {});
off();

export async function use(): Promise<Response[]> {
  const outcome: CancelOutcome = await channel.cancel("r1", "user");
  const sent: { id: string; cursor: string | null } = await channel.send("message", { text: "hi" });
  const { items, next } = await channel.history({ limit: 10 });
  if (next !== null) await channel.history({ before: next });
  console.log(outcome.state, outcome.acknowledged, sent.id);
  return items;
}

export function fold(events: Event[]): string[] {
  const transcript = new Transcript();
  try {
    for (const event of events) transcript.apply(event);
  } catch (error) {
    if (error instanceof GapError) return [error.responseId];
    if (error instanceof TokenwireError) return [error.code];
    throw error;
  }
  return [...transcript].map(({ text }) => text);
}
