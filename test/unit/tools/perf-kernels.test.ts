import { expect, test } from 'vitest';
import { getChecks, passes } from '../../../tools/perf/checks.ts';
import { compareKernels, getKernelMetrics } from '../../../tools/perf/kernel-table.ts';
import { cutShape, getLayerBytes, randomShapes } from '../../../tools/perf/random-shapes.ts';
import { summarise } from '../../../tools/perf/results.ts';

test('a shape keeps its widths when it is cut, and at least one layer', () => {
  for (const shape of randomShapes) {
    const onCpu = cutShape(shape, { isSoftware: true });
    const onGpu = cutShape(shape, { isSoftware: false });
    expect(onCpu).toEqual({ ...shape, layers: 1, vocabSize: 4096 });
    expect(onGpu).toEqual({ ...shape, layers: onGpu.layers });
    expect(onGpu.layers).toBeGreaterThan(1);
    expect(onGpu.layers * getLayerBytes(shape)).toBeLessThan(1.2e9);
  }
});

test('a kernel is compared with the better copy and the better product of its round', () => {
  const kinds = [
    { row: 'm, copy, of a buffer', bytes: 8e6, flops: 0 },
    { row: 'm, copy, by a kernel', bytes: 4e6, flops: 0 },
    { row: 'm, gemm, operands from memory', bytes: 1e6, flops: 1e6 },
    { row: 'm, gemm, operands staged', bytes: 1e6, flops: 5e6 },
    { row: 'm, decode: matvec, qkv', bytes: 2e6, flops: 4e6 },
  ];
  const round = compareKernels(kinds, new Map(kinds.map((kind) => [kind.row, getKernelMetrics(kind, 2)])));
  expect(round.get('m, decode: matvec, qkv')).toEqual({
    microseconds: { value: 2000, unit: 'us' },
    gigabytesPerSecond: { value: 1, unit: 'GB/s' },
    gigaflopsPerSecond: { value: 2, unit: 'GFLOP/s' },
    ofCopy: { value: 0.25, unit: 'ratio' },
    ofGemm: { value: 0.8, unit: 'ratio' },
  });
  expect(round.get('m, copy, by a kernel')).not.toHaveProperty('gigaflopsPerSecond');
});

test("on a GPU the slower of OLMoE's expert kernels has to reach 0.6 of the copy; a CPU is asked for nothing", () => {
  const getRows = (isSoftware: number, down: number) => [
    ...summarise('kernels', 'device', [{ isSoftware: { value: isSoftware, unit: 'yes' } }]),
    ...Object.entries({ expert_gate_up: 0.9, expert_down: down }).flatMap(([kernel, value]) =>
      summarise('kernels', `OLMoE-1B-7B, decode: ${kernel}`, [{ ofCopy: { value, unit: 'ratio' } }]),
    ),
  ];
  expect(getChecks(getRows(0, 0.6), ['kernels']).map(passes)).toEqual([true]);
  expect(getChecks(getRows(0, 0.59), ['kernels']).map(passes)).toEqual([false]);
  expect(getChecks(getRows(0, 0.6).slice(0, 1), ['kernels']).map(passes)).toEqual([false]);
  expect(getChecks(getRows(1, 0.1), ['kernels'])).toEqual([]);
});
