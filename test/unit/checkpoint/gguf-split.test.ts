import { describe, expect, it } from 'vitest';
import type { CheckpointFiles } from '../../../src/checkpoint/checkpoint-files';
import { joinSources } from '../../../src/checkpoint/checkpoint-files';
import { readGguf, readGgufFile } from '../../../src/checkpoint/gguf';
import { buildInstallPlan, type InstallPlan } from '../../../src/checkpoint/install-plan';
import { installModel } from '../../../src/store/install';
import { createMemoryStore } from '../../../src/store/memory-store';
import {
  type Entry,
  memorySource,
  setEntry,
  type TensorSpec,
  tinyOlmoe,
  writeGguf,
  writeTinyOlmoe,
} from './gguf-writer';

const PARTS = 3;
const getName = (index: number, of = PARTS) => `tiny-0000${index + 1}-of-0000${of}.gguf`;

/** The tiny model's entries and tensors. */
function takeSpec(): { entries: Entry[]; tensors: TensorSpec[] } {
  let taken: { entries: Entry[]; tensors: TensorSpec[] } = { entries: [], tensors: [] };
  writeTinyOlmoe((spec) => {
    taken = spec;
  });
  return taken;
}

/** The tiny model as llama.cpp's gguf-split writes it: all keys in the first part, whose tensors may be none. */
function split(edit: (index: number, entries: Entry[]) => void = () => {}): Map<string, Uint8Array> {
  const { entries, tensors } = takeSpec();
  return new Map(
    [0, 1, 2].map((index) => {
      const own: Entry[] = index === 0 ? [...entries] : [];
      own.push(
        ['split.no', 'u16', index],
        ['split.count', 'u16', PARTS],
        ['split.tensors.count', 'i32', tensors.length],
      );
      edit(index, own);
      const cuts = [0, 0, 9, tensors.length];
      return [getName(index), writeGguf({ entries: own, tensors: tensors.slice(cuts[index], cuts[index + 1]) })];
    }),
  );
}

const toFiles = (
  files: ReadonlyMap<string, Uint8Array>,
  ggufPath = getName(0),
): CheckpointFiles & { ggufPath: string } => ({
  name: 'tiny',
  ggufPath,
  find: async (path) => {
    const bytes = files.get(path);
    return bytes ? memorySource(bytes, path) : null;
  },
});

async function packAll(plan: InstallPlan, source: { read: ReturnType<typeof memorySource>['read'] }) {
  return new Map(
    await Promise.all(
      plan.records.map(async ({ key, sourceRanges, pack }) => {
        const ranges = sourceRanges.map(({ offsetBytes, lengthBytes }) => source.read(offsetBytes, lengthBytes));
        return [key, await pack(await Promise.all(ranges))] as const;
      }),
    ),
  );
}

describe('a split GGUF file', () => {
  it('installs to the records of the whole file', async () => {
    const whole = await installModel(memorySource(writeTinyOlmoe()), createMemoryStore());
    const parts = split();
    const { manifest } = await installModel(toFiles(parts), createMemoryStore());
    expect(manifest.digests).toEqual(whole.manifest.digests);
    expect(manifest.tokenizer).toEqual(whole.manifest.tokenizer);
    expect(manifest.sourceBytes).toBe([...parts.values()].reduce((sum, { byteLength }) => sum + byteLength, 0));
    expect(manifest.modelId).not.toBe(whole.manifest.modelId);
  });

  it('keeps a query behind every part of a URL', async () => {
    const asked: string[] = [];
    const files = toFiles(split(), `${getName(0)}?download=true`);
    const find = (path: string) => {
      asked.push(path);
      return files.find(path.replace('?download=true', ''));
    };
    await readGguf({ ...files, find }, files.ggufPath);
    expect(asked).toEqual([0, 1, 2].map((index) => `${getName(index)}?download=true`));
  });

  it.each<[string, (files: Map<string, Uint8Array>) => ReturnType<typeof toFiles>, RegExp]>([
    [
      'a missing part',
      (files) => toFiles(new Map([...files].filter(([name]) => name !== getName(1)))),
      /"tiny-00002-of-00003.gguf" is missing/,
    ],
    ['another than the first part', (files) => toFiles(files, getName(1)), /part 2 of 3; name the first one/],
    [
      'a first part under another name',
      (files) => toFiles(new Map([['renamed.gguf', files.get(getName(0))!]]), 'renamed.gguf'),
      /whose name ends in "-00001-of-00003.gguf"/,
    ],
    [
      'parts in the wrong places',
      (files) => toFiles(files.set(getName(1), files.get(getName(2))!)),
      /is part 3 of 3; part 2 of 3 is needed/,
    ],
    [
      'a part of another split',
      () => toFiles(split((index, entries) => index === 1 && setEntry(entries, ['split.count', 'u16', 4]))),
      /is part 2 of 4; part 2 of 3 is needed/,
    ],
    [
      'a count of tensors that is not met',
      () => toFiles(split((_, entries) => setEntry(entries, ['split.tensors.count', 'i32', 99]))),
      /have 26 tensors; "split.tensors.count" is 99/,
    ],
    [
      'a tensor in two parts',
      (files) => {
        const { tensors } = takeSpec();
        const entries: Entry[] = [
          ['split.no', 'u16', 1],
          ['split.count', 'u16', PARTS],
        ];
        return toFiles(files.set(getName(1), writeGguf({ entries, tensors: tensors.slice(-9) })));
      },
      /appears in two parts/,
    ],
    [
      'an absurd count of parts',
      () => toFiles(split((_, entries) => setEntry(entries, ['split.count', 'u32', 4_000_000_000]))),
      /"split.count" is 4000000000; 0 to 1000 is possible/,
    ],
    [
      'a truncated part',
      (files) => toFiles(files.set(getName(2), files.get(getName(2))!.slice(0, -64))),
      /tiny-00003-of-00003.gguf: tensor ".*" ends at byte/,
    ],
  ])('is refused with %s', async (_, make, message) => {
    const files = make(split());
    await expect(readGguf(files, files.ggufPath)).rejects.toMatchObject({
      code: 'BAD_FILE',
      message: expect.stringMatching(message),
    });
  });
});

it('reads fused gate and up projections as the two that they are', async () => {
  const plain = writeTinyOlmoe();
  const fused = writeTinyOlmoe(({ tensors }) => {
    for (let layer = 0; layer < tinyOlmoe.layers; layer++) {
      const at = tensors.findIndex(({ name }) => name === `blk.${layer}.ffn_gate_exps.weight`);
      const [gate, up] = tensors.splice(at, 2) as [TensorSpec, TensorSpec];
      const { experts, hiddenSize, expertWidth } = tinyOlmoe;
      const half = gate.data.byteLength / experts;
      const data = new Uint8Array(2 * gate.data.byteLength);
      for (let expert = 0; expert < experts; expert++) {
        data.set(gate.data.subarray(expert * half, (expert + 1) * half), 2 * expert * half);
        data.set(up.data.subarray(expert * half, (expert + 1) * half), (2 * expert + 1) * half);
      }
      const name = `blk.${layer}.ffn_gate_up_exps.weight`;
      tensors.push({ name, type: gate.type, dimensions: [hiddenSize, 2 * expertWidth, experts], data });
    }
  });
  const packed = await Promise.all(
    [plain, fused].map(async (bytes) =>
      packAll(buildInstallPlan(await readGgufFile(memorySource(bytes))), memorySource(bytes)),
    ),
  );
  expect(new Map([...packed[1]!].sort())).toEqual(new Map([...packed[0]!].sort()));
});

it('joins sources without a seam', async () => {
  const bytes = Uint8Array.from({ length: 50 }, (_, i) => i);
  const cuts = [0, 7, 7, 30, 50];
  const joined = joinSources(
    'all',
    cuts.slice(1).map((end, i) => memorySource(bytes.slice(cuts[i], end))),
  );
  expect(joined.sizeBytes).toBe(50);
  expect(joined.startBytes).toEqual([0, 7, 7, 30]);
  for (let start = 0; start <= 50; start++) {
    for (let end = start; end <= 50; end++) {
      expect(await joined.read(start, end - start)).toEqual(bytes.slice(start, end));
    }
  }
});
