/**
 * Turns of the event loop within long work: packing a large tensor takes tens of seconds on slow machines, and a worker that
 * answers no ping for so long is taken for dead (client/death-watch.ts). Owns how much is done between two turns.
 */
import { throwIfAborted } from '../aborts';

/** Weights that are packed or quantised between two turns: some 10 to 30 ms. As f32 they are 1 MiB. */
export const STRETCH_WEIGHTS = 2 ** 18;

/**
 * Lets the event loop run what waits: messages, timers, answers of the network. By a message of its own, since timers that
 * follow each other wait for 4 ms.
 * @throws EngineError `ABORTED` when the signal has fired.
 */
export async function giveTurn(signal: AbortSignal | undefined): Promise<void> {
  await new Promise<void>((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
  throwIfAborted(signal, 'packing a tensor');
}
