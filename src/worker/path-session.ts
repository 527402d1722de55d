/**
 * A learned predictor's network on onnxruntime-web, one conversation at a time. Owns the network and its state behind every
 * token, so that tokens can be taken back. The only file that knows onnxruntime; it is loaded when a network is.
 */
import type { InferenceSession } from 'onnxruntime-web/wasm';
import { EngineError } from '../errors';
import type { RoutingShape } from '../routing/token-routes';

export interface PathSession {
  /** Feeds tokens from `position` on. @returns [layers, experts] f32 of the last of them. */
  run(position: number, tokenIds: readonly number[]): Promise<Float32Array>;
  close(): Promise<void>;
}

/**
 * @param network the ONNX file that tools/train/learned.py writes
 * @throws EngineError `BAD_FILE` when it is none, or of another model.
 */
export async function openPathSession(network: Uint8Array, { layers, experts }: RoutingShape): Promise<PathSession> {
  const { env, InferenceSession: Session, Tensor } = await import('onnxruntime-web/wasm');
  // More threads need an isolated page, and gain nothing on a network of this size.
  env.wasm.numThreads = 1;
  const refuse = (problem: string, cause?: unknown) =>
    new EngineError('BAD_FILE', `the learned predictor ${problem}; give one that was trained for this model`, {
      cause,
    });
  let session: InferenceSession;
  try {
    session = await Session.create(network, { executionProviders: ['wasm'], graphOptimizationLevel: 'all' });
  } catch (cause) {
    throw refuse(`is no network that onnxruntime opens (${(cause as Error).message})`, cause);
  }
  const names = [...session.inputNames, ...session.outputNames].join();
  const state = session.inputMetadata.find(({ name }) => name === 'state');
  const hidden = state?.isTensor ? state.shape.at(-1) : undefined;
  if (names !== 'ids,state,scores,states' || typeof hidden !== 'number') {
    throw refuse(`has the inputs and outputs ${names}, not ids,state,scores,states`);
  }
  const pages = layers * experts;
  /** The state behind each token. */
  const states: Float32Array[] = [];

  const run: PathSession['run'] = async (position, tokenIds) => {
    states.length = Math.min(states.length, position);
    // Told of the middle of a conversation alone, the network begins there.
    const before = states[position - 1] ?? new Float32Array(hidden);
    const feeds = {
      ids: new Tensor('int64', BigInt64Array.from(tokenIds, BigInt), [tokenIds.length]),
      state: new Tensor('float32', before, [1, 1, hidden]),
    };
    const answer = await session.run(feeds);
    const scores = answer.scores?.data as Float32Array;
    const after = answer.states?.data as Float32Array;
    if (scores.length !== tokenIds.length * pages) {
      const found = scores.length / tokenIds.length;
      throw refuse(`names ${found} experts, this model has ${layers} layers of ${experts}`);
    }
    for (const index of tokenIds.keys()) {
      states[position + index] = after.slice(index * hidden, (index + 1) * hidden);
    }
    return scores.slice(-pages);
  };
  // One token now: a network of another model is refused here, and not in the middle of an answer.
  await run(0, [0]);
  return { run, close: () => session.release() };
}
