import { expect, test } from 'vitest';
import { countAcceptedRows } from '../../../src/drafting/acceptance';

test.each([
  { fed: [7], sampled: [8], rows: 1, why: 'a pass without guesses' },
  { fed: [7, 8, 9], sampled: [8, 9, 1], rows: 3, why: 'every guess holds' },
  { fed: [7, 8, 9], sampled: [8, 5, 1], rows: 2, why: 'the second guess fails' },
  { fed: [7, 8, 9], sampled: [4, 9, 1], rows: 1, why: 'right tokens behind a wrong one do not count' },
])('$why: $rows rows', ({ fed, sampled, rows }) => {
  expect(countAcceptedRows(fed, sampled, new Set())).toBe(rows);
});

test('nothing is fed behind an end token, guessed rightly or not', () => {
  expect(countAcceptedRows([7, 2, 9], [2, 9, 1], new Set([2]))).toBe(1);
  expect(countAcceptedRows([7, 8, 2], [8, 2, 1], new Set([2]))).toBe(2);
});
