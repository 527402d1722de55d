/** What crosses the boundary to the learned predictor's worker: plain messages, one kind per verb. Owns types only. */
import type { RoutingShape } from '../routing/token-routes';
import type { ErrorWire } from './protocol';

export type PathRequest =
  | { readonly kind: 'open'; readonly network: Uint8Array; readonly shape: RoutingShape }
  | { readonly kind: 'push'; readonly position: number; readonly tokenIds: readonly number[] };

export type PathReply =
  /** Something that the opening needs has come. */
  | { readonly kind: 'progress' }
  | { readonly kind: 'opened' }
  /** Nothing more will come. */
  | { readonly kind: 'failed'; readonly error: ErrorWire }
  /** [layers, experts] f32 of the last token that was pushed. */
  | { readonly kind: 'answer'; readonly position: number; readonly scores: Float32Array<ArrayBuffer> };
