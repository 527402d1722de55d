/**
 * From the tensors of safetensors files to a directory under GGUF's names.
 * Owns how a role's tensor is found by its pattern; how it lies in its file is the business of hf-entries.ts.
 */
import { EngineError } from '../errors';
import type { TensorEntry } from './checkpoint';
import { createEntry, createVector, flatten, type PlacedTensor, stackExperts } from './hf-entries';
import type { Quantizer } from './quantized-tensor';
import type { TensorNames, TensorRole } from './traits';

/** Where the roles' tensors are: names with `{i}` for the layer and `{e}` for the expert, where each has its own; `{r}`: a number that `getLayer` goes by. */
export interface HfTensors {
  /** Several where files of different age differ. */
  readonly names: Partial<Record<TensorRole, string | readonly string[]>>;
  /** Tensors that are several of ours, or lie otherwise. */
  readonly layouts: readonly HfLayout[];
  /** What the configuration holds. */
  readonly vectors: Partial<Record<TensorRole, readonly number[]>>;
  /** Layer of a tensor that a file has in this layer. */
  getLayer(layer: number, name: string): number;
  /** Tensors that are known, and not used. */
  isSkipped(name: string): boolean;
}

export interface HfLayout {
  /** Of tensors that belong together. */
  readonly patterns: readonly string[];
  readonly roles: readonly TensorRole[];
  /** @param tensors one per pattern. @returns an entry per role. */
  make(sourceName: string, ...tensors: PlacedTensor[]): readonly TensorEntry[];
}

/** Buffers that old checkpoints saved; they hold nothing that the configuration does not say. */
const BUFFERS = /\.rotary_emb\.inv_freq$/;
const MAX_EXPERTS = 4096;

/** Vectors that some files keep as a matrix of one row. */
const flatRoles: ReadonlySet<TensorRole> = new Set<TensorRole>(['choiceBias', 'sharedScale']);

/** What a pattern is for: a role, or one of the tensors of a layout. */
type Target = { readonly role: TensorRole } | { readonly layout: HfLayout; readonly index: number };

interface Match {
  readonly target: Target;
  readonly layer: string;
  readonly expert: number | null;
}

/**
 * @param ggufNames names by role.
 * @throws EngineError `BAD_FILE`, `UNSUPPORTED`
 */
export function buildHfTensors(
  sourceName: string,
  placed: readonly PlacedTensor[],
  hf: HfTensors,
  ggufNames: TensorNames,
  quantizer: Quantizer | null,
): Map<string, TensorEntry> {
  const match = compilePatterns(hf);
  const tensors = new Map<string, TensorEntry>();
  const stacks = new Map<string, { readonly role: TensorRole; readonly experts: PlacedTensor[] }>();
  const groups = new Map<
    string,
    { readonly layout: HfLayout; readonly layer: string; readonly found: PlacedTensor[] }
  >();
  const getName = (role: TensorRole, layer: string): string => ggufNames[role].replace('{i}', layer);
  const add = (role: TensorRole, name: string, tensor: TensorEntry) => {
    tensors.set(name, quantizer ? quantizer.wrap(role, tensor) : tensor);
  };
  for (const tensor of placed) {
    if (BUFFERS.test(tensor.name) || hf.isSkipped(tensor.name)) continue;
    const found = match(tensor.name);
    // Under its own name, which has no place: it is refused by that name.
    if (!found) tensors.set(tensor.name, createEntry(sourceName, tensor));
    else if ('layout' in found.target) {
      const { layout, index } = found.target;
      const key = `${hf.layouts.indexOf(layout)} ${found.layer}`;
      const group = groups.get(key) ?? { layout, layer: found.layer, found: [] };
      groups.set(key, group);
      group.found[index] = tensor;
    } else {
      const { role } = found.target;
      const name = getName(role, found.layer);
      if (found.expert === null) {
        const entry = createEntry(sourceName, tensor);
        add(role, name, flatRoles.has(role) ? flatten(entry) : entry);
      } else {
        const stack = stacks.get(name) ?? { role, experts: [] };
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
  for (const { layout, layer, found } of groups.values()) {
    const entries = layout.make(sourceName, ...requireAll(sourceName, layout, layer, found));
    for (const [i, role] of layout.roles.entries()) add(role, getName(role, layer), entries[i] as TensorEntry);
  }
  for (const [role, values] of Object.entries(hf.vectors) as [TensorRole, readonly number[]][]) {
    tensors.set(ggufNames[role], createVector(ggufNames[role], values));
  }
  return tensors;
}

function requireAll(
  sourceName: string,
  { patterns }: HfLayout,
  layer: string,
  found: readonly PlacedTensor[],
): readonly PlacedTensor[] {
  for (const [i, pattern] of patterns.entries()) {
    if (found[i]) continue;
    throw new EngineError('BAD_FILE', `${sourceName}: tensor "${pattern.replace('{i}', layer)}" is missing`);
  }
  return found;
}

function compilePatterns({ names, layouts, getLayer }: HfTensors): (name: string) => Match | undefined {
  const patterns = [
    ...(Object.entries(names) as [TensorRole, string | readonly string[]][]).flatMap(([role, all]) =>
      [all].flat().map((pattern) => compile(pattern, { role })),
    ),
    ...layouts.flatMap((layout) => layout.patterns.map((pattern, index) => compile(pattern, { layout, index }))),
  ];
  return (name) => {
    for (const { target, expression } of patterns) {
      const groups = expression.exec(name);
      if (!groups) continue;
      const { layer, expert } = groups.groups ?? {};
      const own = layer === undefined ? '' : String(getLayer(Number(layer), name));
      return { target, layer: own, expert: expert === undefined ? null : Number(expert) };
    }
    return undefined;
  };
}

function compile(pattern: string, target: Target): { readonly target: Target; readonly expression: RegExp } {
  const escaped = pattern.replace(/[.[\]\\()*+?|^$]/g, '\\$&');
  const source = escaped
    .replace('{i}', '(?<layer>0|[1-9]\\d{0,4})')
    .replace('{e}', '(?<expert>0|[1-9]\\d{0,4})')
    .replace('{r}', '(?:0|[1-9]\\d{0,4})');
  return { target, expression: new RegExp(`^${source}$`) };
}
