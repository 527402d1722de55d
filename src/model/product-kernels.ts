/**
 * The kernels of a model's matrix products, in both forms of a pass: nearly all of its work, and what tuning is for.
 * Owns which are compiled and by which setting; never binds buffers.
 */
import type { ModelManifest } from '../checkpoint/manifest';
import type { AttentionConfig, WeightType } from '../checkpoint/model-config';
import type { GpuDevice } from '../gpu/device';
import { compileExpertDown, type ExpertDown } from '../kernels/expert-down';
import { compileExpertDownTiled, type ExpertDownTiled } from '../kernels/expert-down-tiled';
import { compileExpertGateUp, type ExpertGateUp } from '../kernels/expert-gate-up';
import { compileExpertGateUpTiled, type ExpertGateUpTiled } from '../kernels/expert-gate-up-tiled';
import { compileHeadMatvec, type HeadMatvec } from '../kernels/head-matvec';
import { compileMatmul, type Matmul } from '../kernels/matmul';
import { compileMatvec, type Matvec } from '../kernels/matvec';
import { compileMlpGateUp, type MlpGateUp, type MlpGateUpSpec } from '../kernels/mlp-gate-up';
import { type Tuning, type TuningSetting, tuneVariant } from '../kernels/tuning';
import type { Variant } from '../kernels/variant';
import type { CompileProgress } from './compile-progress';
import { listProducts, type ProductForm } from './products';
import type { StateShape } from './run-state';
import type { LatentWeightPlan, MlpWeightPlan, WeightPlan } from './weights';

/** A product head by head, and whether it reads what attention leaves. */
export type HeadForm = Pick<ProductForm, 'type' | 'ofAttention'>;

/** What tells one pipeline of a dense MLP's products from another. */
export type MlpForm = Pick<MlpGateUpSpec, 'type' | 'isScaled'> & { readonly isFactor: boolean };

/** Of experts, row by row. */
export interface ExpertProducts {
  getExpertGateUp(type: WeightType, isFactor: boolean): ExpertGateUp;
  getExpertDown(type: WeightType): ExpertDown;
}

/** Row by row. */
export interface RowProducts extends ExpertProducts {
  /** y (+)= scale (W x + bias) */
  getMatvec(form: ProductForm): Matvec;
  /** Of latent attention. */
  getHeadMatvec(form: HeadForm): HeadMatvec;
  getMlpGateUp(form: MlpForm): MlpGateUp;
}

/** Of many rows. */
export interface TileProducts {
  /** y (+)= scale (W x + bias) */
  getMatmul(type: WeightType): Matmul;
  getExpertGateUp(type: WeightType, isFactor: boolean): ExpertGateUpTiled;
  getExpertDown(type: WeightType): ExpertDownTiled;
}

/** What kernels are compiled for. */
export interface ProductsModel {
  readonly device: GpuDevice;
  readonly variant: Variant;
  readonly manifest: ModelManifest;
  readonly weights: WeightPlan;
  readonly state: StateShape;
}

/** Those of one setting, in the model's own form whatever that setting is: what a trial compiles one by one. */
export const productKernels = {
  rowTiles: compileRowMatrices,
  expertTiles: compileRowExperts,
  matmulLanes: compileTileMatrices,
  expertLanes: compileTileExperts,
} as const;

export async function compileRowProducts(
  model: ProductsModel,
  tuning: Tuning,
  progress: CompileProgress,
): Promise<RowProducts> {
  const [matrices, experts] = await Promise.all([
    compileRowMatrices(tune(model, tuning, 'rowTiles'), progress),
    compileRowExperts(tune(model, tuning, 'expertTiles'), progress),
  ]);
  return { ...matrices, ...experts };
}

export async function compileTileProducts(
  model: ProductsModel,
  tuning: Tuning,
  progress: CompileProgress,
): Promise<TileProducts> {
  const [matrices, experts] = await Promise.all([
    compileTileMatrices(tune(model, tuning, 'matmulLanes'), progress),
    compileTileExperts(tune(model, tuning, 'expertLanes'), progress),
  ]);
  return { ...matrices, ...experts };
}

function tune(model: ProductsModel, tuning: Tuning, setting: TuningSetting): ProductsModel {
  return { ...model, variant: tuneVariant(model.variant, setting, tuning[setting]) };
}

async function compileRowMatrices(
  { device, variant, manifest, weights, state }: ProductsModel,
  { byForm }: CompileProgress,
): Promise<Omit<RowProducts, keyof ExpertProducts>> {
  const { config } = manifest;
  const getInput = getInputOf(variant, config.attention);
  const rowsCapacity = state.rows;
  const [getMatvec, getHeadMatvec, getMlpGateUp] = await Promise.all([
    byForm(
      listProducts(weights, config).map(({ form }) => getInput(form)),
      (form) => compileMatvec(device, variant, form),
    ),
    byForm(
      weights.layers.flatMap(({ latent }) => (latent ? listHeadForms(latent).map(getInput) : [])),
      (form) => compileHeadMatvec(device, variant, form),
    ),
    byForm(
      weights.layers.flatMap(({ mlp }) => (mlp ? listMlpForms(mlp) : [])),
      (form) => compileMlpGateUp(device, variant, { ...form, rowsCapacity }),
    ),
  ]);
  return {
    getMatvec: (form) => getMatvec(getInput(form)),
    getHeadMatvec: (form) => getHeadMatvec(getInput(form)),
    getMlpGateUp,
  };
}

async function compileRowExperts(
  { device, variant, manifest, state }: ProductsModel,
  { byForm }: CompileProgress,
): Promise<ExpertProducts> {
  const { moe, hiddenSize } = manifest.config;
  const [getExpertGateUp, getExpertDown] = await Promise.all([
    byForm(listExpertForms(manifest), (form) =>
      compileExpertGateUp(device, variant, { ...form, moe, hiddenSize, rowsCapacity: state.rows }),
    ),
    byForm(listDownTypes(manifest), (type) => compileExpertDown(device, variant, { type, moe, hiddenSize })),
  ]);
  return { getExpertGateUp: (type, isFactor) => getExpertGateUp({ type, isFactor }), getExpertDown };
}

async function compileTileMatrices(
  { device, variant, manifest, weights }: ProductsModel,
  { byForm }: CompileProgress,
): Promise<Pick<TileProducts, 'getMatmul'>> {
  const getMatmul = await byForm(
    listProducts(weights, manifest.config).map(({ form }) => form.type),
    (type) => compileMatmul(device, variant, type),
  );
  return { getMatmul };
}

async function compileTileExperts(
  { device, variant, manifest }: ProductsModel,
  { byForm }: CompileProgress,
): Promise<Omit<TileProducts, 'getMatmul'>> {
  const { moe, hiddenSize } = manifest.config;
  const [getExpertGateUp, getExpertDown] = await Promise.all([
    byForm(listExpertForms(manifest), (form) =>
      compileExpertGateUpTiled(device, variant, { ...form, moe, hiddenSize }),
    ),
    byForm(listDownTypes(manifest), (type) => compileExpertDownTiled(device, variant, { type, moe, hiddenSize })),
  ]);
  return { getExpertGateUp: (type, isFactor) => getExpertGateUp({ type, isFactor }), getExpertDown };
}

/** One pipeline for both kinds of input where attention leaves a row as any other kernel does. */
function getInputOf(variant: Variant, attention: AttentionConfig) {
  return <T extends HeadForm>({ ofAttention, ...form }: T) => ({
    ...form,
    spansOf: variant.attentionSpans > 1 && ofAttention ? attention : null,
  });
}

/** Gate and up, and the factor where there is one. */
export function listMlpForms({ gateUp, factor, scale }: MlpWeightPlan): MlpForm[] {
  const form = { type: gateUp.type, isScaled: scale !== null, isFactor: false };
  return factor ? [form, { type: factor.type, isScaled: false, isFactor: true }] : [form];
}

/** Of keys, which queries meet, and of values, which are made of what attention leaves, row by row or in tiles. */
function listHeadForms({ keyUp, valueUp }: LatentWeightPlan): HeadForm[] {
  return [
    { type: keyUp.type, ofAttention: false },
    { type: valueUp.type, ofAttention: true },
    { type: valueUp.type, ofAttention: false },
  ];
}

/** Kernels of the experts' products but the last: gate and up, and the factor where there is one. A repetition per page group. */
function listExpertForms({ pageLayouts }: ModelManifest): { type: WeightType; isFactor: boolean }[] {
  return pageLayouts.flatMap(({ upProj, factorProj }) => [
    { type: upProj.type, isFactor: false },
    ...(factorProj ? [{ type: factorProj.type, isFactor: true }] : []),
  ]);
}

function listDownTypes({ pageLayouts }: ModelManifest): WeightType[] {
  return pageLayouts.map((page) => page.downProj.type);
}
