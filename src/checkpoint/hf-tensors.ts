/**
 * From the tensors of safetensors files to a directory under GGUF's names.
 * Owns how a role's tensor is found by its pattern, and how experts that are tensors of their own become one entry.
 */
import { EngineError } from '../errors';
import type { TensorNames } from './architecture';
import { type SourceRange, sliceRange, type TensorEntry } from './checkpoint';
import type { WeightType } from './model-config';
import type { Quantizer } from './quantized-tensor';
import type { SafetensorsEntry } from './safetensors';

/** A tensor with its place in the joined source. */
export type PlacedTensor = SafetensorsEntry;

type Role = keyof TensorNames;

const WEIGHT_TYPES: Readonly<Record<string, WeightType>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' };
/** Buffers that old checkpoints saved; they hold nothing that the configuration does not say. */
const BUFFERS = /\.rotary_emb\.inv_freq$/;
const MAX_EXPERTS = 4096;

interface Match {
  readonly role: Role;
  readonly layer: string;
  readonly expert: number | null;
}

/**
 * @param hfNames patterns by role; @param ggufNames names by role.
 * @throws EngineError `BAD_FILE`, `UNSUPPORTED`
 */
export function buildHfTensors(
  sourceName: string,
  placed: readonly PlacedTensor[],
  hfNames: Partial<TensorNames>,
  ggufNames: TensorNames,
  quantizer: Quantizer | null,
): Map<string, TensorEntry> {
  const match = compilePatterns(hfNames);
  const tensors = new Map<string, TensorEntry>();
  const stacks = new Map<string, { readonly role: Role; readonly experts: PlacedTensor[] }>();
  const add = (role: Role, name: string, tensor: TensorEntry) => {
    tensors.set(name, quantizer ? quantizer.wrap(role, tensor) : tensor);
  };
  for (const tensor of placed) {
    if (BUFFERS.test(tensor.name)) continue;
    const found = match(tensor.name);
    // Under its own name, which has no place: it is refused by that name.
    if (!found) tensors.set(tensor.name, createEntry(sourceName, tensor));
    else {
      const name = ggufNames[found.role].replace('{i}', found.layer);
      if (found.expert === null) add(found.role, name, createEntry(sourceName, tensor));
      else {
        const stack = stacks.get(name) ?? { role: found.role, experts: [] };
        stacks.set(name, stack);
        if (found.expert >= MAX_EXPERTS) {
          throw new EngineError(
            'BAD_FILE',
            `${sourceName}: tensor "${tensor.name}": the limit is ${MAX_EXPERTS} experts`,
          );
        }
        stack.experts[found.expert] = tensor;
      }
    }
  }
  for (const [name, { role, experts }] of stacks) add(role, name, stackExperts(sourceName, name, experts));
  return tensors;
}

function compilePatterns(hfNames: Partial<TensorNames>): (name: string) => Match | undefined {
  const patterns = (Object.entries(hfNames) as [Role, string][]).map(([role, pattern]) => {
    const escaped = pattern.replace(/[.[\]\\()*+?|^$]/g, '\\$&');
    const source = escaped.replace('{i}', '(?<layer>0|[1-9]\\d{0,4})').replace('{e}', '(?<expert>0|[1-9]\\d{0,4})');
    return { role, expression: new RegExp(`^${source}$`) };
  });
  return (name) => {
    for (const { role, expression } of patterns) {
      const groups = expression.exec(name);
      if (!groups) continue;
      const { layer = '', expert } = groups.groups ?? {};
      return { role, layer, expert: expert === undefined ? null : Number(expert) };
    }
    return undefined;
  };
}

function getType(sourceName: string, { name, dtype }: PlacedTensor): WeightType {
  const type = WEIGHT_TYPES[dtype];
  if (type) return type;
  throw new EngineError(
    'UNSUPPORTED',
    `${sourceName}: tensor "${name}" has dtype ${dtype}; accepted are ${Object.keys(WEIGHT_TYPES).join(', ')}`,
  );
}

function createEntry(sourceName: string, tensor: PlacedTensor): TensorEntry {
  const { name, shape, offsetBytes, sizeBytes } = tensor;
  if (shape.length === 0 || sizeBytes === 0) {
    throw new EngineError('BAD_FILE', `${sourceName}: tensor "${name}" has shape [${shape.join(', ')}]; it has no row`);
  }
  return {
    name,
    type: getType(sourceName, tensor),
    shape,
    getSlab: (index, count) => ({
      ranges: [sliceRange(name, offsetBytes, sizeBytes, index, count)],
      assemble: null,
    }),
  };
}

/** One entry for experts that each have a tensor; what was not found is a hole. */
function stackExperts(sourceName: string, name: string, found: readonly PlacedTensor[]): TensorEntry {
  const all = Array.from<PlacedTensor | undefined>(found).map((tensor, expert) => {
    if (tensor) return tensor;
    throw new EngineError('BAD_FILE', `${sourceName}: expert ${expert} of ${name} is missing`);
  });
  const first = all[0] as PlacedTensor;
  for (const tensor of all) {
    const isAlike = tensor.dtype === first.dtype && String(tensor.shape) === String(first.shape);
    if (!isAlike) {
      throw new EngineError(
        'BAD_FILE',
        `${sourceName}: tensor "${tensor.name}" is ${tensor.dtype} [${tensor.shape.join(', ')}], "${first.name}" is ` +
          `${first.dtype} [${first.shape.join(', ')}]; the experts of a layer are alike`,
      );
    }
  }
  const getRange = (index: number, count: number): SourceRange => {
    // A fused tensor is read by its halves.
    const parts = count / all.length;
    const { name: own, offsetBytes, sizeBytes } = all[Math.floor(index / parts)] as PlacedTensor;
    return sliceRange(own, offsetBytes, sizeBytes, index % parts, parts);
  };
  return {
    name: first.name,
    type: getType(sourceName, first),
    shape: [all.length, ...first.shape],
    getSlab: (index, count) => ({ ranges: [getRange(index, count)], assemble: null }),
  };
}
