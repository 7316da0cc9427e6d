// npm's `openai` against a running router: chat, stream, tools, structured output, errors, a broken stream.
// Usage: node check.mjs BASE_URL TIER…   Prints one line per check; the first that fails ends it with status 1.
import assert from "node:assert/strict";
import OpenAI from "openai";

const [baseURL, ...tiers] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const hi = [{ role: "user", content: "Hi" }];
const parameters = { type: "object", properties: { q: { type: "string" } } };
const tools = [{ type: "function", function: { name: "look", description: "Looks.", parameters } }];

// What the provider behind the tier does next: see test_node.py.
const script = (tier, scene) => fetch(`${process.env.SCENES}/${tier}/${scene}`, { method: "POST" });

const checks = {
  async chat(tier) {
    const { data, response } = await client.chat.completions.create({ model: tier, messages: hi }).withResponse();
    assert.equal(data.choices[0].message.content, "Hello world");
    assert.equal(data.usage.total_tokens, data.usage.prompt_tokens + data.usage.completion_tokens);
    assert.equal(data._virtusoul.tier, tier);
    assert.equal(response.headers.get("x-virtusoul-tier"), tier);
  },

  async stream(tier) {
    const options = { model: tier, messages: hi, stream: true, stream_options: { include_usage: true } };
    const words = [];
    let usage;
    for await (const chunk of await client.chat.completions.create(options)) {
      words.push(chunk.choices[0]?.delta?.content ?? "");
      usage = chunk.usage ?? usage;
    }
    assert.equal(words.join(""), "Hello world");
    assert.ok(usage.total_tokens > 0);
  },

  async tools(tier) {
    const seen = [];
    const runner = client.chat.completions.runTools({
      model: tier,
      messages: hi,
      tools: [
        {
          type: "function",
          function: { ...tools[0].function, parse: JSON.parse, function: ({ q }) => (seen.push(q), `saw ${q}`) },
        },
      ],
    });
    assert.equal(await runner.finalContent(), "Done");
    assert.deepEqual(seen, ["ü", "dogs"]);
  },

  async "streamed tools"(tier) {
    await script(tier, "tools");
    const first = await client.chat.completions.stream({ model: tier, messages: hi, tools }).finalMessage();
    assert.deepEqual(first.tool_calls.map((call) => [call.id, JSON.parse(call.function.arguments).q]), [["a", "ü"], ["b", "dogs"]]);
    const results = first.tool_calls.map((call) => ({ role: "tool", tool_call_id: call.id, content: "here" }));
    const second = await client.chat.completions.stream({ model: tier, messages: [...hi, first, ...results], tools }).finalMessage();
    assert.equal(second.content, "Done");
  },

  async errors(tier) {
    await assert.rejects(client.chat.completions.create({ model: "nothing", messages: hi }), OpenAI.BadRequestError);
    await script(tier, "limited");
    const limited = await client.chat.completions.create({ model: tier, messages: hi }).catch((error) => error);
    assert.ok(limited instanceof OpenAI.RateLimitError, String(limited));
    assert.equal(limited.headers.get("retry-after"), "7");
    await script(tier, "refused");
    await assert.rejects(client.chat.completions.create({ model: tier, messages: hi, stream: true }), OpenAI.BadRequestError);
  },

  async "broken stream"(tier) {
    await script(tier, "broken");
    const words = [];
    await assert.rejects(async () => {
      for await (const chunk of await client.chat.completions.create({ model: tier, messages: hi, stream: true })) {
        words.push(chunk.choices[0].delta.content ?? "");
      }
    }, OpenAI.APIError);
    assert.equal(words.join(""), "Hel");
  },
};

for (const tier of tiers) {
  for (const [name, check] of Object.entries(checks)) {
    await script(tier, name);
    await check(tier);
    console.log(`${tier}: ${name}`);
  }
}
