// Reads a log of events a line, folds it with tokenwire.js, and tells what it had after each event.
import { createInterface } from "node:readline";

const { Transcript, GapError } = await import(process.argv[2]);

export function foldAll(log) {
  const transcript = new Transcript();
  return log.map((event) => {
    try {
      const response = transcript.apply(event);
      return response === null ? null : { ...response, joined: [response.text, response.reasoning], ended: response.ended };
    } catch (error) {
      if (error instanceof GapError) return "gap";
      throw error;
    }
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(foldAll(JSON.parse(line))));
}
