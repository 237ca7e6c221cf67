// The AI SDK (npm package ai): streamText with a tool; the argument is the provider.
import { stepCountIs, streamText, tool } from 'ai'
import { z } from 'zod'

let model
if (process.argv[2] === 'anthropic') {
  const { createAnthropic } = await import('@ai-sdk/anthropic')
  // Its base URL has /v1 in it, unlike that of Anthropic's own packages.
  const baseURL = `${process.env.ANTHROPIC_BASE_URL}/v1`
  model = createAnthropic({ baseURL })('claude-sonnet-4-5')
} else {
  const { openai } = await import('@ai-sdk/openai')
  model = process.argv[2] === 'chat' ? openai.chat('gpt-4o') : openai('gpt-4o')
}
const calls = []
const get_weather = tool({
  description: 'Get the weather.',
  inputSchema: z.object({ city: z.string() }),
  execute: async (input) => {
    calls.push(['get_weather', input])
    return 'rain'
  },
})
const result = streamText({
  model,
  prompt: 'What is the weather in Oslo?',
  tools: { get_weather },
  stopWhen: stepCountIs(3),
})
let text = ''
for await (const piece of result.textStream) text += piece
console.log(JSON.stringify({ text, calls }))
