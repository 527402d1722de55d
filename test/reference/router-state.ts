/** CPU reference of shaders/router_state.wgsl, in f64. */
import type { NormConfig } from '../../src/checkpoint/model-config';
import { matvec } from './matvec';
import { normalize } from './rms-norm';

/**
 * input: the norm's weights (and biases) [hidden], W1 [width, hidden]; cell: Wir, Wiz, Win, Whr, Whz, Whn [width, width], six
 * biases [width]; residual [rows, hidden]; before [rows, width]. Returns the states [rows, width].
 */
export function routerState(
  { hidden, width, norm }: { readonly hidden: number; readonly width: number; readonly norm: NormConfig },
  input: Float32Array,
  cell: Float32Array,
  residual: Float32Array,
  before: Float32Array,
): Float64Array {
  const normWidth = norm.kind === 'layer' ? 2 * hidden : hidden;
  const x = normalize(norm.kind, residual, input.subarray(0, normWidth), norm.epsilon);
  const inputs = matvec(input.subarray(normWidth), x, width, hidden);
  const product = (index: number, values: ArrayLike<number>): Float64Array => {
    const size = width * width;
    const bias = cell.subarray(6 * size + index * width, 6 * size + (index + 1) * width);
    return matvec(cell.subarray(index * size, (index + 1) * size), values, width, width).map(
      (v, i) => v + bias[i % width]!,
    );
  };
  const [ir, iz, inNew] = [0, 1, 2].map((index) => product(index, inputs)) as [
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  const [hr, hz, hNew] = [3, 4, 5].map((index) => product(index, before)) as [Float64Array, Float64Array, Float64Array];
  const sigmoid = (v: number): number => 1 / (1 + Math.exp(-v));
  return inNew.map((value, i) => {
    const z = sigmoid(iz[i]! + hz[i]!);
    return (1 - z) * Math.tanh(value + sigmoid(ir[i]! + hr[i]!) * hNew[i]!) + z * before[i]!;
  });
}
