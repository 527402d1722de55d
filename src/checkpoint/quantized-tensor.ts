/**
 * Tensors that are quantised while they are installed: a page or a tensor at a time, and never more of it as f32 than a
 * stretch. Owns which matrices become what, and the sums from which the error is reported.
 */
import type { TensorEntry } from './checkpoint';
import { getWeightFormat } from './formats';
import { measureError, type QuantizationError, type QuantizedType, quantize } from './formats/quantize';
import { getFileBytes, UNIT_WEIGHTS } from './formats/weight-format';
import type { QuantizationReport, ResidentRole } from './manifest';
import { isMatrixRole } from './resident-tensors';
import type { TensorRole } from './traits';
import { giveTurn, STRETCH_WEIGHTS } from './turns';

const expertMatrices: ReadonlySet<string> = new Set<TensorRole>([
  'gateProj',
  'upProj',
  'factorProj',
  'downProj',
  'gateUpProj',
]);

/**
 * Q4_0 is for the experts, which are nearly all of a model's bytes; the other matrices, which every token uses, become
 * Q8_0 then. Norms, routers and vectors stay as they are.
 */
export class Quantizer {
  readonly #sums = new Map<string, QuantizationError & { readonly type: QuantizedType }>();

  constructor(private readonly type: QuantizedType) {}

  /** The tensor as it will be installed. */
  wrap(role: TensorRole, tensor: TensorEntry): TensorEntry {
    const isExpert = expertMatrices.has(role);
    if (!isExpert && !isMatrixRole(role as ResidentRole)) return tensor;
    const format = getWeightFormat(tensor.type);
    if (format.blockWeights > 1 || (tensor.shape.at(-1) as number) % UNIT_WEIGHTS !== 0) return tensor;
    const type = isExpert ? this.type : 'q8_0';
    return {
      ...tensor,
      type,
      getSlab: (index, count) => {
        const { ranges, assemble } = tensor.getSlab(index, count);
        return {
          ranges,
          assemble: async (bytes, signal) => {
            const file = assemble ? await assemble(bytes, signal) : (bytes[0] as Uint8Array);
            const weights = file.byteLength / format.blockBytes;
            const out = new Uint8Array(getFileBytes(getWeightFormat(type), weights));
            const error = { errorSquares: 0, weightSquares: 0 };
            for (let at = 0; at < weights; at += STRETCH_WEIGHTS) {
              if (at > 0) await giveTurn(signal);
              const end = Math.min(weights, at + STRETCH_WEIGHTS);
              const stretch = file.subarray(at * format.blockBytes, end * format.blockBytes);
              const values = format.dequantizeFile(stretch, end - at);
              const blocks = quantize(type, values);
              out.set(blocks, getFileBytes(getWeightFormat(type), at));
              const { errorSquares, weightSquares } = measureError(type, values, blocks);
              error.errorSquares += errorSquares;
              error.weightSquares += weightSquares;
            }
            // Whole tensors only: one that was aborted comes again.
            this.#add(role, type, error);
            return out;
          },
        };
      },
    };
  }

  /** Relative root mean square errors by kind of tensor, of all that was quantised so far. */
  getReport(): QuantizationReport {
    return Object.fromEntries(
      [...this.#sums].map(([role, { type, errorSquares, weightSquares }]) => [
        role,
        { type, relativeRms: weightSquares === 0 ? 0 : Math.sqrt(errorSquares / weightSquares) },
      ]),
    );
  }

  #add(role: string, type: QuantizedType, more: QuantizationError): void {
    const { errorSquares = 0, weightSquares = 0 } = this.#sums.get(role) ?? {};
    this.#sums.set(role, {
      type,
      errorSquares: errorSquares + more.errorSquares,
      weightSquares: weightSquares + more.weightSquares,
    });
  }
}
