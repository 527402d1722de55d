/**
 * Layers whose experts do not fit into their slots together: wave after wave, in the queue's order, with no read-back
 * between. Owns what the page table shows meanwhile; never decides which layers go in waves, nor with which experts.
 *
 * Every wave shows the experts of its set alone, and those of the others as promised, so that the layer's router finds no
 * page missing that some wave has. Outputs are kept apart by (token, rank), so neither the order of the waves nor their size
 * shows in a result.
 */
import { throwIfAborted } from '../aborts';
import type { Waves } from '../experts/pager';
import { Submission } from '../gpu/pass';
import type { EntryPoint } from '../model/forward';
import type { PassForm } from '../model/steps';
import type { Runtime } from './runtime';

/** A recorded submission that still lacks its read-back, and how far it goes. */
export interface Segment {
  readonly submission: Submission;
  readonly from: EntryPoint;
}

export class LayerWaves {
  /** By MoE layer, what its waves show: while the page table says so. */
  readonly #shown = new Map<number, ReadonlySet<number>>();

  constructor(
    private readonly runtime: Runtime,
    private readonly onSubmit: () => void,
  ) {}

  /** Experts that the waves of a layer show; absent: it runs as it is. */
  getShown(moeLayer: number): ReadonlySet<number> | undefined {
    return this.#shown.get(moeLayer);
  }

  /**
   * Runs on from a segment's entry up to the last of these layers, all but its sum, which the segment returned begins with.
   * @param layers in the order of the pass.
   * @throws what reading a page throws, and the reason of an abort.
   */
  async run(
    segment: Segment,
    form: PassForm,
    rows: number,
    layers: readonly Waves[],
    signal: AbortSignal | undefined,
  ): Promise<Segment> {
    const { manifest, pager, forward } = this.runtime;
    let { submission, from } = segment;
    for (const waves of layers) {
      throwIfAborted(signal);
      const layer = manifest.config.moeLayers[waves.moeLayer] as number;
      this.#shown.set(waves.moeLayer, new Set(waves.sets.flat()));
      const isReached = from.layer === layer && from.stage !== 'attention';
      // What is recorded reads slots that this layer's pages take too: it goes first, up to this layer's router.
      const goesFirst = pager.sharesPages && !isReached;
      if (goesFirst) {
        pager.mapWave(waves, []);
        forward.encodeLayers(submission, form, from, layer, rows);
        submission = this.#submit(submission);
      }
      for (const [index, set] of waves.sets.entries()) {
        if (index > 0) submission = this.#submit(submission);
        // What has been recorded since the last submission reads other slots and rows.
        await pager.ensureWave(waves, set, signal);
        pager.mapWave(waves, set);
        if (index === 0 && !goesFirst) forward.encodeLayers(submission, form, from, layer, rows);
        forward.encodeExperts(submission, form, layer, rows);
      }
      from = { layer, stage: 'combine' };
    }
    return { submission, from };
  }

  /** Submits what a segment has recorded, so that slots it reads may change. */
  flush({ submission, from }: Segment): Segment {
    return { submission: this.#submit(submission), from };
  }

  #submit(submission: Submission): Submission {
    submission.submit();
    this.onSubmit();
    return new Submission(this.runtime.device);
  }

  /** Shows every resident page again: the next submission has to find it, whatever happened. */
  restore(): void {
    for (const moeLayer of this.#shown.keys()) this.runtime.pager.map(moeLayer);
    this.#shown.clear();
  }
}
