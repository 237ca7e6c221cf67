// An agent in Node that knows nothing of tokenwire. It finds its provider where OpenAI's SDK does.
const base = process.env.OPENAI_BASE_URL ?? "https://api.openai.com/v1";
const reply = await fetch(`${base}/chat/completions`, {
  method: "POST",
  headers: {
    "content-type": "application/json",
    authorization: `Bearer ${process.env.OPENAI_API_KEY}`,
  },
  body: JSON.stringify({
    model: process.env.OPENAI_MODEL ?? "gpt-5-mini",
    messages: [{ role: "user", content: "Why do people stream tokens?" }],
    stream: true,
  }),
});
if (!reply.ok) throw new Error(`${reply.status} ${await reply.text()}`);

let rest = "";
for await (const text of reply.body.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\n");
  rest = lines.pop();
  for (const line of lines) {
    if (!line.startsWith("data: {")) continue;
    process.stdout.write(JSON.parse(line.slice(6)).choices[0]?.delta?.content ?? "");
  }
}
console.log();
