// Asks a model by one of the SDKs, as its documentation shows; prints the text that it is given.
import Anthropic from "@anthropic-ai/sdk";
import { anthropic } from "@ai-sdk/anthropic";
import { openai } from "@ai-sdk/openai";
import { streamText } from "ai";
import OpenAI from "openai";

const prompt = "Tell me about tea.";

async function* chat() {
  const messages = [{ role: "user", content: prompt }];
  const stream = await new OpenAI().chat.completions.create({
    model: "m",
    messages,
    stream: true,
    stream_options: { include_usage: true },
  });
  for await (const chunk of stream) yield chunk.choices[0]?.delta?.content ?? "";
}

async function* responses() {
  const stream = await new OpenAI().responses.create({ model: "m", input: prompt, stream: true });
  for await (const event of stream) if (event.type === "response.output_text.delta") yield event.delta;
}

async function* messages() {
  const stream = new Anthropic().messages.stream({
    model: "m",
    max_tokens: 1000,
    messages: [{ role: "user", content: prompt }],
  });
  for await (const event of stream) if (event.delta?.type === "text_delta") yield event.delta.text;
}

const ways = {
  chat,
  responses,
  messages,
  "ai-openai": () => streamText({ model: openai("gpt-5"), prompt }).textStream,
  "ai-openai-chat": () => streamText({ model: openai.chat("gpt-5"), prompt }).textStream,
  "ai-anthropic": () => streamText({ model: anthropic("claude-sonnet-5"), prompt }).textStream,
};

let text = "";
for await (const piece of ways[process.argv[2]]()) {
  if (!text) console.log("begun");
  text += piece;
}
console.log(JSON.stringify({ text, proxy: process.env.TOKENWIRE_PROXY ?? null }));
process.exitCode = 3;
