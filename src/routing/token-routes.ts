/**
 * What one token was routed to: the experts of every MoE layer, in router order. Never copies: a whole trace is two
 * arrays, and a token is a window onto them.
 */
import { assert } from '../errors';

/** Sizes that all routes of a model share. */
export interface RoutingShape {
  /** MoE layers only. */
  readonly layers: number;
  readonly experts: number;
  /** The largest number of experts a token uses in a layer. */
  readonly expertsPerToken: number;
}

export class TokenRoutes {
  /**
   * @param ids expert ids, one layer's behind the other's
   * @param starts where each layer's ids begin; layer l owns `ids[starts[first + l]]` up to `ids[starts[first + l + 1]]`
   * @param first entry of `starts` that belongs to layer 0 of this token
   */
  constructor(
    readonly ids: ArrayLike<number>,
    readonly starts: ArrayLike<number>,
    readonly first = 0,
  ) {}

  static fromLayers(layers: readonly ArrayLike<number>[]): TokenRoutes {
    const starts = new Uint32Array(layers.length + 1);
    const ids: number[] = [];
    for (const [layer, experts] of layers.entries()) {
      ids.push(...Array.from(experts));
      starts[layer + 1] = ids.length;
    }
    return new TokenRoutes(ids, starts);
  }

  /** Where the ids of a layer begin in `ids`; they end where those of the next layer begin. */
  getStart(layer: number): number {
    const start = this.starts[this.first + layer];
    assert(start !== undefined, `the routes have a layer ${layer}`);
    return start;
  }

  getLayer(layer: number): number[] {
    const experts: number[] = [];
    for (let at = this.getStart(layer); at < this.getStart(layer + 1); at++) experts.push(this.ids[at] as number);
    return experts;
  }
}
