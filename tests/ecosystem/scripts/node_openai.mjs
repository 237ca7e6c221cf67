// The npm package openai: Chat Completions or Responses, streamed.
import OpenAI from 'openai'

const parameters = { type: 'object', properties: { city: { type: 'string' } } }
const fn = { name: 'get_weather', description: 'Get it.', parameters }
const question = 'What is the weather in Oslo?'
const client = new OpenAI()
let text = ''
const calls = []
const usage = [0, 0]

async function chat() {
  const stream = await client.chat.completions.create({
    model: 'm',
    messages: [{ role: 'user', content: question }],
    tools: [{ type: 'function', function: fn }],
    stream: true,
    stream_options: { include_usage: true },
  })
  for await (const chunk of stream) {
    if (chunk.usage) {
      usage[0] += chunk.usage.prompt_tokens
      usage[1] += chunk.usage.completion_tokens
    }
    for (const choice of chunk.choices) {
      text += choice.delta.content ?? ''
      for (const call of choice.delta.tool_calls ?? []) {
        if (call.function.name) calls.push([call.function.name, ''])
        calls.at(-1)[1] += call.function.arguments ?? ''
      }
    }
  }
}

async function responses() {
  const tools = [{ type: 'function', ...fn }]
  const stream = await client.responses.create({ model: 'm', input: question, tools, stream: true })
  for await (const event of stream) {
    if (event.type === 'response.output_text.delta') text += event.delta
    if (event.type === 'response.output_item.done' && event.item.type === 'function_call') {
      calls.push([event.item.name, event.item.arguments])
    }
    if (event.type === 'response.completed') {
      usage[0] += event.response.usage.input_tokens
      usage[1] += event.response.usage.output_tokens
    }
  }
}

for (let turn = 0; turn < 2; turn++) await (process.argv[2] === 'chat' ? chat() : responses())
console.log(JSON.stringify({ text, usage, calls: calls.map(([n, a]) => [n, JSON.parse(a)]) }))
