/** The flags of every command that runs the engine: which model, how much of the GPU, in which browser. Pure. */
import type { QuantizedType } from '../../src/checkpoint/formats/quantize.ts';
import type { ExpertBudget, KernelOptions, KvChoice } from '../../src/engine/engine.ts';
import { type EvictionName, evictionNames } from '../../src/experts/eviction-policies.ts';
import { kvChoices } from '../../src/kernels/kv-type.ts';
import type { StoreChoice } from '../../src/store/model-store.ts';
import { parseNumber, parseOneOf, parseSwitch, parseText } from '../flags.ts';
import { ToolError } from '../tool-error.ts';

export interface EngineFlags {
  /** Path or URL; absent: the embedded model. */
  readonly model?: string;
  /** Of a folder with safetensors files. */
  readonly quantize?: QuantizedType;
  readonly contextLength?: number;
  readonly expertBudget: ExpertBudget;
  readonly store?: StoreChoice;
  readonly eviction?: EvictionName;
  readonly kernels?: KernelOptions;
  readonly kvType?: KvChoice;
  readonly profile?: string;
  readonly chromeArgs: readonly string[];
}

const storeChoices: readonly StoreChoice[] = ['indexeddb', 'opfs', 'memory', 'auto'];

export const engineOptions = {
  model: { type: 'string' },
  quantize: { type: 'string' },
  context: { type: 'string' },
  'expert-budget': { type: 'string' },
  store: { type: 'string' },
  eviction: { type: 'string' },
  subgroups: { type: 'string' },
  'packed-dot': { type: 'string' },
  f16: { type: 'string' },
  'subgroup-matrix': { type: 'string' },
  'attention-spans': { type: 'string' },
  'kernel-trial': { type: 'string' },
  'kv-type': { type: 'string' },
  profile: { type: 'string' },
  adapter: { type: 'string' },
  'chrome-arg': { type: 'string', multiple: true },
} as const;

type EngineValues = {
  readonly [N in keyof typeof engineOptions]?: (N extends 'chrome-arg' ? string[] : string) | undefined;
};

/** @throws ToolError `BAD_ARGUMENT` */
export function getEngineFlags(values: EngineValues): EngineFlags {
  const { quantize } = values;
  const contextLength = parseNumber('context', values.context, { integer: true, min: 1 });
  return {
    ...(values.model === undefined ? {} : { model: parseText('model', values.model) }),
    ...(quantize === undefined ? {} : { quantize: parseOneOf('quantize', quantize, ['q4_0', 'q8_0']) }),
    ...(contextLength === undefined ? {} : { contextLength }),
    expertBudget: parseExpertBudget(values['expert-budget'] ?? '100%'),
    ...(values.store === undefined ? {} : { store: parseOneOf('store', values.store, storeChoices) }),
    ...(values.eviction === undefined ? {} : { eviction: parseOneOf('eviction', values.eviction, evictionNames) }),
    ...parseKernels(values),
    ...(values['kv-type'] === undefined ? {} : { kvType: parseOneOf('kv-type', values['kv-type'], kvChoices) }),
    ...(values.profile === undefined ? {} : { profile: parseText('profile', values.profile) }),
    chromeArgs: parseChromeArgs(values.adapter, values['chrome-arg'] ?? []),
  };
}

function parseKernels(values: EngineValues): Pick<EngineFlags, 'kernels'> {
  const { subgroups, 'packed-dot': packedDot, f16, 'subgroup-matrix': subgroupMatrix } = values;
  const attentionSpans = parseNumber('attention-spans', values['attention-spans'], { integer: true, min: 1 });
  const trial =
    values['kernel-trial'] === undefined
      ? undefined
      : parseOneOf('kernel-trial', values['kernel-trial'], ['off', 'idle', 'load']);
  const kernels = {
    ...(subgroups === undefined ? {} : { subgroups: parseSwitch('subgroups', subgroups) }),
    ...(packedDot === undefined ? {} : { packedDot: parseSwitch('packed-dot', packedDot) }),
    ...(f16 === undefined ? {} : { f16: parseSwitch('f16', f16) }),
    ...(subgroupMatrix === undefined ? {} : { subgroupMatrix: parseSwitch('subgroup-matrix', subgroupMatrix) }),
    ...(attentionSpans === undefined ? {} : { attentionSpans }),
    ...(trial === undefined ? {} : { trial: trial === 'off' ? (false as const) : trial }),
  };
  return Object.keys(kernels).length > 0 ? { kernels } : {};
}

function parseExpertBudget(text: string): ExpertBudget {
  const percent = /^(\d+(?:\.\d+)?)%$/.exec(text)?.[1];
  if (percent !== undefined && Number(percent) > 0 && Number(percent) <= 100) return { percent: Number(percent) };
  if (/^\d+$/.test(text) && Number(text) > 0 && Number.isSafeInteger(Number(text))) return { bytes: Number(text) };
  throw new ToolError(
    'BAD_ARGUMENT',
    `--expert-budget is "${text}"; allowed: above 0% to 100%, or a whole number of bytes`,
  );
}

/** `--adapter` picks what Chromium's WebGPU runs on; further names may be given by --chrome-arg. */
function parseChromeArgs(adapter: string | undefined, chromeArgs: readonly string[]): string[] {
  for (const arg of chromeArgs) {
    if (!/^--[a-z]/.test(arg)) {
      throw new ToolError(
        'BAD_ARGUMENT',
        `--chrome-arg is "${arg}"; allowed: one switch of Chromium, as --chrome-arg=--switch=value`,
      );
    }
  }
  if (adapter === undefined) return [...chromeArgs];
  return [`--use-webgpu-adapter=${parseOneOf('adapter', adapter, ['default', 'swiftshader'])}`, ...chromeArgs];
}
