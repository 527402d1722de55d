/**
 * What a submission of a pass brings home, and how its bytes are cut. Owns the read-back's layout only.
 */
import type { ReadbackPart } from '../gpu/pass';
import { CONTROL } from '../model/run-state';
import type { Runtime } from './runtime';

export interface PassRecord {
  /** The words before the sampled tokens; see shaders/lib/control.wgsl. */
  readonly control: Uint32Array;
  /** One per logits row. */
  readonly sampledIds: Uint32Array;
  /** [moeLayers, rows, expertsPerToken] */
  readonly routes: Uint32Array;
  /** Tokens of the pass as the GPU drafted them, the given one first; empty without a draft. */
  readonly draftedIds: Uint32Array;
  /** [drafted tokens, moeLayers, expertsPerToken]: what the draft chose. */
  readonly draftRoutes: Uint32Array;
  /** The fault word behind each token of a run; else empty. */
  readonly tokenFaults: Uint32Array;
  /** [logitRows, vocab] f32, when they are part of it. */
  readonly logits: Float32Array | null;
}

export interface RecordShape {
  readonly rows: number;
  readonly logitRows: number;
  /** Tokens drafted by the pass itself, or of a run. */
  readonly draftTokens: number;
  /** Exact tokens one after another, which may fault, and whose logits are placed as they come. */
  readonly isRun?: boolean;
}

export class RecordLayout {
  readonly #parts: readonly ReadbackPart[];
  readonly #logits: ReadbackPart;

  constructor({ state, manifest }: Runtime, shape: RecordShape) {
    const { moeLayers, moe, vocabSize } = manifest.config;
    const { rows, logitRows, draftTokens, isRun } = shape;
    const routeWords = moeLayers.length * moe.expertsPerToken;
    const words: readonly (readonly [source: ReadbackPart['source'], words: number])[] = [
      [state.control, CONTROL.nextToken + logitRows],
      [state.routeIds, rows * routeWords],
      [state.draftTokens, draftTokens === 0 ? 0 : draftTokens + 1],
      [state.draftRoutes, draftTokens * routeWords],
      [state.tokenFaults, isRun ? draftTokens : 0],
    ];
    this.#parts = words.map(([source, count]) => ({ source, offsetBytes: 0, sizeBytes: count * 4 }));
    this.#logits = { source: state.logits, offsetBytes: 0, sizeBytes: logitRows * vocabSize * 4 };
  }

  /** Where logits lie in the read-back buffer, and their size, when they are part of the record. */
  get logitsPlace(): { readonly offsetBytes: number; readonly sizeBytes: number } {
    return {
      offsetBytes: this.#parts.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      sizeBytes: this.#logits.sizeBytes,
    };
  }

  getParts(withLogits: boolean): readonly ReadbackPart[] {
    const parts = withLogits ? [...this.#parts, this.#logits] : this.#parts;
    return parts.filter((part) => part.sizeBytes > 0);
  }

  /** @param bytes of `getParts`, in that order. */
  split(bytes: ArrayBuffer, withLogits: boolean): PassRecord {
    let at = 0;
    const take = ({ sizeBytes }: ReadbackPart): Uint32Array => {
      const words = new Uint32Array(bytes, at, sizeBytes / 4);
      at += sizeBytes;
      return words;
    };
    const [control, routes, draftedIds, draftRoutes, tokenFaults] = this.#parts.map(take) as [
      control: Uint32Array,
      routes: Uint32Array,
      draftedIds: Uint32Array,
      draftRoutes: Uint32Array,
      tokenFaults: Uint32Array,
    ];
    return {
      control: control.subarray(0, CONTROL.nextToken),
      sampledIds: control.subarray(CONTROL.nextToken),
      routes,
      draftedIds,
      draftRoutes,
      tokenFaults,
      logits: withLogits ? new Float32Array(bytes, at, this.#logits.sizeBytes / 4) : null,
    };
  }
}
