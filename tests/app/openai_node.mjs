// openai-node against a relay: a stored response, read, listed, and cancelled with no body, as it does. Arguments: base
// URL, folder of node_modules. Prints one line of JSON.
import { createRequire } from "node:module";

const [baseURL, modules] = process.argv.slice(2);
const require = createRequire(modules + "/");
const { OpenAI } = require("openai");

const client = new OpenAI({ baseURL, apiKey: "key", maxRetries: 0 });
const response = await client.responses.create({ model: "demo", input: "Hello." });
const read = await client.responses.retrieve(response.id);
const items = [];
for await (const item of client.responses.inputItems.list(response.id)) items.push(item.type);

let cancelled;
try {
  await client.responses.cancel(response.id);
  cancelled = { status: 200 };
} catch (error) {
  cancelled = { status: error.status, message: error.message };
}

const kinds = [];
for await (const event of client.responses.stream({ model: "demo", input: "Hello." })) kinds.push(event.type);

console.log(JSON.stringify({ text: response.output_text, read: read.output_text, items, cancelled, last: kinds.at(-1) }));
