import { describe, expect, it } from 'vitest';
import { readGgufFile } from '../../../src/checkpoint/gguf';
import { buildInstallPlan } from '../../../src/checkpoint/install-plan';
import { EngineError, type ErrorCode } from '../../../src/errors';
import { startSpentTime } from '../spent-time';
import {
  ByteWriter,
  type Entry,
  memorySource,
  setEntry,
  setTensor,
  type TensorSpec,
  ValueType,
  writeGguf,
  writeTinyOlmoe,
} from './gguf-writer';

const LIMIT_MS = 1000;

async function expectError(bytes: Uint8Array, code: ErrorCode, message: RegExp): Promise<void> {
  const getSpentMs = startSpentTime();
  const error = await readGgufFile(memorySource(bytes))
    .then(buildInstallPlan)
    .then(
      () => undefined,
      (reason: unknown) => reason,
    );
  expect(error).toBeInstanceOf(EngineError);
  expect((error as EngineError).message).toMatch(message);
  expect((error as EngineError).code).toBe(code);
  expect(getSpentMs()).toBeLessThan(LIMIT_MS);
}

const edited = (edit: (spec: { entries: Entry[]; tensors: TensorSpec[] }) => void) => writeTinyOlmoe(edit);

describe('readGguf', () => {
  it('gives metadata with checked numbers, and tensors in torch order at absolute offsets', async () => {
    const data = new Uint8Array(new Float32Array([1, 2, 3, 4, 5, 6]).buffer);
    const bytes = writeGguf({
      entries: [
        ['a.u64', 'u64', 7n],
        ['a.big', 'u64', 2n ** 63n],
        ['a.f32', 'f32', 0.5],
        ['a.yes', 'bool', true],
        ['a.text', 'string', 'höchst'],
        ['a.list', 'array', 'i32', [1, -2]],
      ],
      tensors: [{ name: 'm', dimensions: [3, 2], type: 0, data }],
    });
    const gguf = await readGgufFile(memorySource(bytes));
    expect(gguf.metadata.getInteger('a.u64')).toBe(7);
    expect(() => gguf.metadata.getInteger('a.big')).toThrow(/9223372036854775808; the limit is 9007199254740991/);
    expect(gguf.metadata.getNumber('a.f32')).toBe(0.5);
    expect(() => gguf.metadata.getInteger('a.f32')).toThrow(/whole number/);
    expect(() => gguf.metadata.getNumber('a.f32', { min: 1 })).toThrow(/is 0.5; 1 to any is possible/);
    expect(gguf.metadata.getNumber('absent', { default: 3 })).toBe(3);
    expect(() => gguf.metadata.getNumber('absent')).toThrow(/"absent" is missing/);
    expect(gguf.metadata.getBool('a.yes')).toBe(true);
    expect(gguf.metadata.getString('a.text')).toBe('höchst');
    expect(() => gguf.metadata.getString('a.yes')).toThrow(/is a boolean; a string is needed/);
    expect(gguf.metadata.getNumbers('a.list')).toEqual([1, -2]);
    expect(() => gguf.metadata.getStrings('a.list')).toThrow(/holds a number/);
    expect(gguf.tensors.get('m')).toMatchObject({
      name: 'm',
      type: 'f32',
      shape: [2, 3],
      offsetBytes: gguf.headerBytes,
      sizeBytes: 24,
    });
    expect(bytes.slice(gguf.headerBytes, gguf.headerBytes + 24)).toEqual(data);
  });

  it('keeps a leading U+FEFF, and a string that ends an array across a 2 MB boundary, whole', async () => {
    for (let shift = -40; shift <= 0; shift += 4) {
      const filler = 'x'.repeat(900_000);
      // Where the array's first string starts.
      const start = 24 + 8 + 4 + 4 + 4 + 8;
      const rest = 2_000_000 + shift - start - 2 * (8 + filler.length) - 8;
      const values = [`\uFEFF${filler.slice(3)}`, filler, 'y'.repeat(rest), 'the last one, thirty letters in'];
      const bytes = writeGguf({
        entries: [
          ['list', 'array', 'string', values],
          ['bom', 'string', '\uFEFF'],
          ['next', 'u32', 1],
        ],
      });
      const gguf = await readGgufFile(memorySource(bytes));
      const found = gguf.metadata.getStrings('list');
      expect(found.length).toBe(4);
      expect(found.every((text, i) => text === values[i])).toBe(true);
      expect(gguf.metadata.getString('bom')).toBe('\uFEFF');
      expect(gguf.metadata.getNumber('next')).toBe(1);
    }
  });

  it('reads a header of several megabytes', async () => {
    const values = Array.from({ length: 40_000 }, (_, i) => `token ${i} ${'x'.repeat(100)}`);
    const gguf = await readGgufFile(memorySource(writeGguf({ entries: [['list', 'array', 'string', values]] })));
    const found = gguf.metadata.getStrings('list');
    expect(found.length).toBe(values.length);
    expect(found.every((text, i) => text === values[i])).toBe(true);
  });

  it('names two models alike only when header, size and sampled weights agree', async () => {
    const bytes = writeTinyOlmoe();
    const { modelId } = await readGgufFile(memorySource(bytes));
    expect(modelId).toMatch(/^gguf-[0-9a-f]{32}$/);
    expect((await readGgufFile(memorySource(bytes, 'elsewhere.gguf'))).modelId).toBe(modelId);
    const renamed = edited(({ entries }) => setEntry(entries, ['general.name', 'string', 'ynit']));
    expect((await readGgufFile(memorySource(renamed))).modelId).not.toBe(modelId);
    const retrained = edited(({ tensors }) => {
      for (const { data } of tensors) data.reverse();
    });
    expect((await readGgufFile(memorySource(retrained))).modelId).not.toBe(modelId);
  });
});

describe('a hostile file', () => {
  it('is refused when it is no GGUF file, or one of another version', async () => {
    await expectError(new Uint8Array(0), 'BAD_FILE', /has 0 bytes; a GGUF file has at least 24/);
    await expectError(writeGguf({ entries: [], magic: 'GGML' }), 'BAD_FILE', /not with "GGUF"/);
    await expectError(writeGguf({ entries: [], version: 2 }), 'UNSUPPORTED', /GGUF version 2.*version 3/);
    await expectError(writeGguf({ entries: [], version: 0x03000000 }), 'UNSUPPORTED', /big-endian/);
    await expectError(writeGguf({ entries: [], version: 77 }), 'BAD_FILE', /GGUF version 77/);
  });

  it('is refused when a count or a length cannot be true', async () => {
    for (const count of [2n ** 63n, 2n ** 64n - 1n, 1_000_000n]) {
      await expectError(
        writeGguf({ entries: [], tensorCount: count }),
        'BAD_FILE',
        new RegExp(`tensor count is ${count}`),
      );
      await expectError(
        writeGguf({ entries: [], metadataCount: count }),
        'BAD_FILE',
        new RegExp(`metadata count is ${count}`),
      );
    }
    const raw = (build: (writer: ByteWriter) => void): Uint8Array => {
      const writer = new ByteWriter();
      build(writer);
      return writeGguf({ entries: [['k', 'raw', writer.finish()]] });
    };
    await expectError(
      raw((w) => w.number('u32', ValueType.string).number('u64', 2n ** 40n)),
      'BAD_FILE',
      /length of string "k" is 1099511627776/,
    );
    await expectError(
      raw((w) =>
        w
          .number('u32', ValueType.array)
          .number('u32', ValueType.u8)
          .number('u64', 2n ** 62n),
      ),
      'BAD_FILE',
      /array length of "k" is/,
    );
    await expectError(
      raw((w) => {
        for (let depth = 0; depth < 10_000; depth++) w.number('u32', ValueType.array).number('u64', 1);
      }),
      'BAD_FILE',
      /k/,
    );
    await expectError(
      raw((w) => w.number('u32', ValueType.array).number('u32', ValueType.array).number('u64', 1)),
      'BAD_FILE',
      /array of arrays/,
    );
    await expectError(
      raw((w) => w.number('u32', 13).number('u64', 0)),
      'BAD_FILE',
      /value type 13/,
    );
  });

  it('is refused when a key or a tensor name appears twice', async () => {
    await expectError(
      writeGguf({
        entries: [
          ['a', 'u8', 1],
          ['a', 'u8', 2],
        ],
      }),
      'BAD_FILE',
      /metadata key "a" appears twice/,
    );
    await expectError(
      edited(({ tensors }) => setTensor(tensors, 'blk.0.attn_k.weight', { name: 'blk.0.attn_v.weight' })),
      'BAD_FILE',
      /tensor "blk.0.attn_v.weight" appears twice/,
    );
    await expectError(
      writeGguf({ entries: [['__proto__', 'array', 'u8', [1]]] }),
      'BAD_FILE',
      /"__proto__" is not usable/,
    );
  });

  it('is refused when a tensor cannot be where or what it says', async () => {
    const tensor = (change: Partial<TensorSpec>) =>
      edited(({ tensors }) => setTensor(tensors, 'output_norm.weight', change));
    await expectError(
      tensor({ offset: 2n ** 40n }),
      'BAD_FILE',
      /"output_norm.weight" ends at byte \d+, but the file has/,
    );
    await expectError(tensor({ offset: 2n ** 64n - 32n }), 'BAD_FILE', /ends at byte \d+, but the file has/);
    await expectError(tensor({ offset: 0n }), 'BAD_FILE', /inside/);
    await expectError(tensor({ offset: 2561n }), 'BAD_FILE', /data offset 2561; the alignment is 32/);
    await expectError(tensor({ dimensions: [2n ** 31n, 2n ** 31n] }), 'BAD_FILE', /has 4611686018427387904 weights/);
    await expectError(tensor({ dimensions: [2n ** 63n, 2n] }), 'BAD_FILE', /output_norm.weight/);
    await expectError(tensor({ dimensions: [0] }), 'BAD_FILE', /has 0 weights/);
    await expectError(tensor({ dimensions: [] }), 'BAD_FILE', /has 0 dimensions/);
    await expectError(tensor({ dimensions: [1, 1, 1, 1, 32] }), 'BAD_FILE', /has 5 dimensions/);
    await expectError(
      tensor({ type: 23 }),
      'UNSUPPORTED',
      /type 23 \(IQ4_XS\); accepted are F32, .*Q6_K, IQ4_NL, MXFP4/,
    );
    await expectError(tensor({ type: 999 }), 'UNSUPPORTED', /type 999 \(unknown\)/);
    await expectError(tensor({ type: 2, dimensions: [16, 2] }), 'BAD_FILE', /16 columns; q4_0 needs a multiple of 32/);
  });

  it('is refused when its alignment is no alignment', async () => {
    for (const [value, message] of [
      [0, /alignment/],
      [24, /power of two/],
      [2 ** 31, /8 to 65536/],
    ] as const) {
      await expectError(
        edited(({ entries }) => setEntry(entries, ['general.alignment', 'u32', value])),
        'BAD_FILE',
        message,
      );
    }
  });

  it('is refused at every length short of the whole', async () => {
    const whole = writeTinyOlmoe((spec) => {
      setEntry(spec.entries, [
        'tokenizer.ggml.tokens',
        'array',
        'string',
        Array.from({ length: 20 }, (_, i) => `${i}`),
      ]);
    });
    const { headerBytes } = await readGgufFile(memorySource(whole));
    const lengths = [
      ...Array.from({ length: headerBytes + 1 }, (_, i) => i),
      ...Array.from({ length: 50 }, (_, i) => headerBytes + Math.floor(((whole.byteLength - headerBytes) * i) / 50)),
      whole.byteLength - 1,
    ];
    for (const length of lengths) {
      const error = await readGgufFile(memorySource(whole.subarray(0, length))).catch((reason: unknown) => reason);
      expect(error, `${length} bytes`).toBeInstanceOf(EngineError);
      expect((error as EngineError).code, `${length} bytes`).toBe('BAD_FILE');
    }
  });

  it('with bits flipped in the header is read or refused with a code, always within a second', async () => {
    const whole = writeTinyOlmoe();
    const { headerBytes } = await readGgufFile(memorySource(whole));
    let seed = 42;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return Math.floor((seed / 2 ** 32) * below);
    };
    let refused = 0;
    for (let round = 0; round < 500; round++) {
      const bytes = whole.slice();
      for (let flips = 1 + random(3); flips > 0; flips--) {
        const at = random(headerBytes);
        bytes[at] = (bytes[at] as number) ^ (1 << random(8));
      }
      const getSpentMs = startSpentTime();
      try {
        buildInstallPlan(await readGgufFile(memorySource(bytes)));
      } catch (error) {
        refused++;
        expect(error, `round ${round}: ${error}`).toBeInstanceOf(EngineError);
        expect(['BAD_FILE', 'UNSUPPORTED']).toContain((error as EngineError).code);
      }
      expect(getSpentMs(), `round ${round}`).toBeLessThan(LIMIT_MS);
    }
    expect(refused).toBeGreaterThan(100);
    expect(refused).toBeLessThan(500);
  });
});
