import { describe, expect, it } from 'vitest';
import { EventQueue } from '../../../src/client/event-queue';

async function collect<T>(queue: EventQueue<T>): Promise<T[]> {
  const events: T[] = [];
  for await (const event of queue) events.push(event);
  return events;
}

describe('EventQueue', () => {
  it('gives events in order, whether pushed before or while reading', async () => {
    const queue = new EventQueue<number>();
    queue.push(1);
    queue.push(2);
    const reading = collect(queue);
    await Promise.resolve();
    queue.push(3);
    await new Promise((resolve) => setTimeout(resolve, 1));
    queue.push(4);
    queue.close();
    expect(await reading).toEqual([1, 2, 3, 4]);
  });

  it('gives the events before an error, then throws it', async () => {
    const queue = new EventQueue<number>();
    queue.push(1);
    queue.close(new Error('torn'));
    const events: number[] = [];
    await expect(
      (async () => {
        for await (const event of queue) events.push(event);
      })(),
    ).rejects.toThrow('torn');
    expect(events).toEqual([1]);
  });

  it('carries falsy events', async () => {
    const queue = new EventQueue<number | undefined>();
    queue.push(0);
    queue.push(undefined);
    queue.close();
    expect(await collect(queue)).toEqual([0, undefined]);
  });
});
