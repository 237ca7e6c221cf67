// The npm package @google/genai, streamed.
import { GoogleGenAI } from '@google/genai'

const client = new GoogleGenAI({ apiKey: 'x' })
let text = ''
let reasoning = ''
const calls = []
for (let turn = 0; turn < 2; turn++) {
  const parametersJsonSchema = { type: 'object', properties: { city: { type: 'string' } } }
  const stream = await client.models.generateContentStream({
    model: 'gemini-3',
    contents: 'What is the weather in Oslo?',
    config: {
      tools: [{ functionDeclarations: [{ name: 'get_weather', parametersJsonSchema }] }],
    },
  })
  for await (const chunk of stream) {
    for (const part of chunk.candidates[0].content.parts ?? []) {
      if (part.functionCall) calls.push([part.functionCall.name, part.functionCall.args])
      else if (part.thought) reasoning += part.text
      else text += part.text ?? ''
    }
  }
}
console.log(JSON.stringify({ text, reasoning, calls }))
