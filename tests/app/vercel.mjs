// The Vercel AI SDK against a relay: a tool loop that streams, a stored conversation, an object. Arguments: base URL,
// folder of node_modules. Prints one line of JSON.
import { createRequire } from "node:module";

const [baseURL, modules] = process.argv.slice(2);
const require = createRequire(modules + "/");
const { streamText, generateText, generateObject, tool, jsonSchema, stepCountIs } = require("ai");
const { createOpenAI } = require("@ai-sdk/openai");

const openai = createOpenAI({ baseURL, apiKey: "key" });
const calls = [];
const weather = tool({
  description: "The weather at a place.",
  inputSchema: jsonSchema({
    type: "object",
    properties: { location: { type: "string" } },
    required: ["location"],
    additionalProperties: false,
  }),
  execute: async ({ location }) => {
    calls.push(location);
    return "18 degrees and sunny";
  },
});

const streamed = streamText({
  model: openai.responses("demo"),
  prompt: "What is the weather in Paris?",
  tools: { weather },
  stopWhen: stepCountIs(4),
});
let deltas = "";
for await (const delta of streamed.textStream) deltas += delta;

const first = await generateText({ model: openai.responses("demo"), prompt: "The code word is plum." });
const { responseId } = first.providerMetadata.openai;
const second = await generateText({
  model: openai.responses("demo"),
  prompt: "Again.",
  providerOptions: { openai: { previousResponseId: responseId } },
});
// with store (the default) the SDK sends references to what the server keeps
const replayed = await generateText({
  model: openai.responses("demo"),
  messages: [
    { role: "user", content: "The code word is plum." },
    ...first.response.messages,
    { role: "user", content: "Once more." },
  ],
});
const { object } = await generateObject({
  model: openai.responses("demo"),
  prompt: "Tell me of Paris.",
  schema: jsonSchema({
    type: "object",
    properties: { name: { type: "string" }, population: { type: "integer" } },
    required: ["name", "population"],
    additionalProperties: false,
  }),
});
console.log(
  JSON.stringify({
    calls: calls.length,
    deltas,
    finish: await streamed.finishReason,
    usage: (await streamed.totalUsage).totalTokens,
    second: second.text,
    replayed: replayed.text,
    object,
  }),
);
