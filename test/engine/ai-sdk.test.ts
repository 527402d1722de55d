/** The AI SDK's own functions over an engine: what they give is what chat completions give. */
import { generateText, jsonSchema, Output, stepCountIs, streamText, tool } from 'ai';
import { afterAll, describe, expect, it } from 'vitest';
import { createWebmoe } from '../../src/ai-sdk/provider';
import { createChat } from '../../src/chat/chat';
import { openSession } from './engine-session';

const { engine, loaded } = await openSession('e5k1-gqa-q4_0', { expertBudget: { percent: 40 } });
const chat = createChat(engine);
const model = createWebmoe(Object.assign(engine, { chat }))();
afterAll(() => engine.unload());

const settings = { temperature: 0.8, topP: 0.9, seed: 7, maxOutputTokens: 12, maxRetries: 0 } as const;
const prompt = 'Say something';

interface Day {
  readonly day: 'Monday' | 'Friday';
}
const daySchema = jsonSchema<Day>({
  type: 'object',
  properties: { day: { type: 'string', enum: ['Monday', 'Friday'] } },
  required: ['day'],
  additionalProperties: false,
});

describe('streamText and generateText', () => {
  it('give the text and the usage that chat completions give', async () => {
    const { choices, usage } = await chat.completions.create({
      messages: [
        { role: 'system', content: 'Be brief' },
        { role: 'user', content: prompt },
      ],
      temperature: 0.8,
      top_p: 0.9,
      seed: 7,
      max_tokens: 12,
    });
    const counts = { inputTokens: usage.prompt_tokens, outputTokens: usage.completion_tokens };
    const streamed = streamText({ model, prompt, instructions: 'Be brief', ...settings });
    const pieces: string[] = [];
    for await (const piece of streamed.textStream) pieces.push(piece);
    expect(pieces.length).toBeGreaterThan(2);
    expect(pieces.join('')).toBe(choices[0]?.message.content);
    expect(await streamed.usage).toMatchObject(counts);
    expect(await streamed.finishReason).toBe('length');
    expect((await streamed.response).modelId).toBe(loaded.name);

    const whole = await generateText({ model, prompt, instructions: 'Be brief', ...settings });
    expect(whole.text).toBe(choices[0]?.message.content);
    expect(whole.usage).toMatchObject(counts);
    const { cacheReadTokens = -1, noCacheTokens = -1 } = whole.usage.inputTokenDetails;
    // The third time that this prompt is asked.
    expect(usage.prompt_tokens_details.cached_tokens).toBe(0);
    expect(cacheReadTokens).toBeGreaterThan(0);
    expect(cacheReadTokens + noCacheTokens).toBe(usage.prompt_tokens);
    expect(whole.warnings ?? []).toEqual([]);
  });

  it('say what has no effect, and refuse what cannot be read', async () => {
    const warned = await generateText({ model, prompt, ...settings, maxOutputTokens: 1, reasoning: 'high' });
    expect(warned.warnings).toEqual([expect.objectContaining({ type: 'unsupported', feature: 'reasoning "high"' })]);
    const image = { type: 'file', mediaType: 'image/png', data: new Uint8Array([137, 80, 78, 71]) } as const;
    const seeing = generateText({ model, messages: [{ role: 'user', content: [image] }], ...settings });
    await expect(seeing).rejects.toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining('"file"') });
    const unknown = generateText({ model, prompt, ...settings, providerOptions: { webmoe: { mirostat: 2 } } });
    await expect(unknown).rejects.toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining('mirostat') });
  });

  it('stop when the caller aborts, and the engine is free again', async () => {
    const controller = new AbortController();
    const aborted: string[] = [];
    const { fullStream } = streamText({
      model,
      prompt,
      ...settings,
      maxOutputTokens: 90,
      abortSignal: controller.signal,
    });
    let tokens = 0;
    for await (const part of fullStream) {
      if (part.type === 'text-delta' && ++tokens === 2) controller.abort();
      if (part.type === 'abort') aborted.push(part.type);
    }
    expect(aborted).toEqual(['abort']);
    expect(tokens).toBeLessThan(20);
    expect((await generateText({ model, prompt, ...settings, maxOutputTokens: 2 })).usage.outputTokens).toBe(2);
  });
});

describe('structured output and tools', () => {
  it('Output.object gives an object of its schema', async () => {
    const { output } = await generateText({
      model,
      prompt,
      ...settings,
      maxOutputTokens: 60,
      output: Output.object({ schema: daySchema }),
    });
    expect(output).toEqual({ day: expect.stringMatching(/^(Monday|Friday)$/) });
  });

  it('a tool is called with arguments of its schema, and the next step is told its result', async () => {
    const booked: Day[] = [];
    const book = tool({
      description: 'Books a day',
      inputSchema: daySchema,
      execute: (input) => {
        booked.push(input);
        return { booked: input.day };
      },
    });
    // The tiny model's context is too short for a description of tools.
    const named = await (await fetch('/models/default.json')).json();
    const bytes = new Uint8Array(await (await fetch(`/${named.url}`)).arrayBuffer());
    const small = await openSession(bytes, { expertBudget: { percent: 50 } });
    const { steps } = await generateText({
      model: createWebmoe(small.engine)(small.loaded.name),
      prompt: 'Book it',
      ...settings,
      maxOutputTokens: 80,
      tools: { book },
      toolChoice: 'required',
      stopWhen: stepCountIs(2),
    });
    expect(steps).toHaveLength(2);
    expect(steps.map(({ finishReason }) => finishReason)).toEqual(['tool-calls', 'tool-calls']);
    expect(booked).toHaveLength(2);
    for (const { day } of booked) expect(['Monday', 'Friday']).toContain(day);
    await small.engine.unload();
    // The call and its result are part of the second prompt.
    expect(steps[1]?.usage.inputTokens).toBeGreaterThan((steps[0]?.usage.inputTokens ?? 0) + 10);
  });
});
