/** The matrix products of a pass, and what tells their pipelines apart. Pure: lists them, runs nothing. */
import type { ModelConfig, WeightType } from '../checkpoint/model-config';
import type { MatrixPlan, WeightPlan } from './weights';

/** What tells one pipeline of a matrix product from another. */
export interface ProductForm {
  readonly type: WeightType;
  /** Adds to the residual stream instead of writing. */
  readonly accumulate: boolean;
  readonly hasBias: boolean;
  readonly scale: number;
  /** It reads what attention leaves. */
  readonly ofAttention: boolean;
}

/** A matrix product of the forward pass. */
export interface Product {
  readonly matrix: MatrixPlan;
  readonly bias: MatrixPlan | null;
  readonly form: ProductForm;
}

/** A product that writes its result. */
export function getProduct(matrix: MatrixPlan, bias: MatrixPlan | null, scale = 1): Product {
  const form = { type: matrix.type, accumulate: false, hasBias: bias !== null, scale, ofAttention: false };
  return { matrix, bias, form };
}

/** A product that adds to the residual stream. */
export function getAddition(
  matrix: MatrixPlan,
  bias: MatrixPlan | null,
  { residualScale: scale }: ModelConfig,
  ofAttention = false,
): Product {
  return { matrix, bias, form: { type: matrix.type, accumulate: true, hasBias: bias !== null, scale, ofAttention } };
}

/** Every product of a pass, those of the head last. */
export function listProducts(plan: WeightPlan, config: ModelConfig): Product[] {
  return [
    ...plan.layers.flatMap(({ qkv, qkvBias, latent, convolution, oProj, oBias, mlp }) => [
      ...qkv.map((matrix) => getProduct(matrix, qkvBias)),
      ...[latent?.queryDown, latent?.queryUp].flatMap((matrix) => (matrix ? [getProduct(matrix, null)] : [])),
      ...(oProj ? [getAddition(oProj, oBias, config, !latent && !convolution)] : []),
      ...(mlp ? [getAddition(mlp.down, null, config)] : []),
    ]),
    ...plan.head.map((matrix) => getProduct(matrix, plan.headBias, config.logitScale)),
  ];
}
