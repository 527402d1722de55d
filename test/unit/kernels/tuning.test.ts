/** What a caller may force of the settings that only move work. */
import { describe, expect, it } from 'vitest';
import { chooseTuning, type ForcedTuning, formatTuning, tuneVariant } from '../../../src/kernels/tuning';

const form = { tiles: 1, tileLanes: 64 };

describe('settings of the kernels', () => {
  it('follow the form where nothing is forced', () => {
    expect(chooseTuning(form, {}, 256)).toEqual({ rowTiles: 1, expertTiles: 1, matmulLanes: 64, expertLanes: 64 });
  });

  it('are what is forced, one by one', () => {
    const tuning = chooseTuning(form, { expertTiles: 4, matmulLanes: 128, rowTiles: undefined }, 256);
    expect(formatTuning(tuning)).toBe('rowTiles 1, expertTiles 4, matmulLanes 128, expertLanes 64');
    expect(tuneVariant(form, 'expertTiles', tuning.expertTiles)).toEqual({ tiles: 4, tileLanes: 64 });
    expect(tuneVariant(form, 'matmulLanes', tuning.matmulLanes)).toEqual({ tiles: 1, tileLanes: 128 });
  });

  it.each([
    [{ rowTiles: 0 }, 'kernels.tuning.rowTiles is 0: give a whole number from 1 to 64'],
    [{ expertTiles: 1.5 }, 'kernels.tuning.expertTiles is 1.5: give a whole number from 1 to 64'],
    [{ matmulLanes: 6 }, 'kernels.tuning.matmulLanes is 6: give a multiple of 4'],
    [{ expertLanes: 512 }, "up to this adapter's 256 invocations"],
    [{ lanes: 4 } as ForcedTuning, 'kernels.tuning.lanes is no setting: give rowTiles'],
  ])('%o is refused with the range', (forced, message) => {
    expect(() => chooseTuning(form, forced, 256)).toThrow(
      expect.objectContaining({ code: 'BAD_ARGUMENT', message: expect.stringContaining(message) }),
    );
  });
});
