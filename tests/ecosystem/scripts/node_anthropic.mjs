// The npm package @anthropic-ai/sdk, streamed.
import Anthropic from '@anthropic-ai/sdk'

const client = new Anthropic()
const input_schema = { type: 'object', properties: { city: { type: 'string' } } }
let text = ''
let reasoning = ''
const calls = []
const usage = [0, 0]

for (let turn = 0; turn < 2; turn++) {
  const stream = await client.messages.create({
    model: 'm',
    max_tokens: 1000,
    messages: [{ role: 'user', content: 'What is the weather in Oslo?' }],
    tools: [{ name: 'get_weather', input_schema }],
    stream: true,
  })
  for await (const event of stream) {
    if (event.type === 'message_start') usage[0] += event.message.usage.input_tokens
    if (event.type === 'message_delta') usage[1] += event.usage.output_tokens
    if (event.type === 'content_block_start' && event.content_block.type === 'tool_use') {
      calls.push([event.content_block.name, ''])
    }
    if (event.type === 'content_block_delta') {
      text += event.delta.text ?? ''
      reasoning += event.delta.thinking ?? ''
      if (event.delta.partial_json !== undefined) calls.at(-1)[1] += event.delta.partial_json
    }
  }
}
const parsed = calls.map(([name, json]) => [name, JSON.parse(json)])
console.log(JSON.stringify({ text, reasoning, usage, calls: parsed }))
