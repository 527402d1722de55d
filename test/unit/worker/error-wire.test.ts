import { describe, expect, it } from 'vitest';
import { EngineError } from '../../../src/errors';
import { fromErrorWire, toErrorWire } from '../../../src/worker/error-wire';

/** There and back, through structured cloning as postMessage does it. */
function cross(thrown: unknown): EngineError {
  return fromErrorWire(structuredClone(toErrorWire(thrown)));
}

describe('error wire', () => {
  it('keeps code, message and stack', () => {
    const error = new EngineError('BUDGET_TOO_SMALL', 'The floor is 4 MiB.');
    const crossed = cross(error);
    expect(crossed).toBeInstanceOf(EngineError);
    expect(crossed).toMatchObject({ code: 'BUDGET_TOO_SMALL', message: 'The floor is 4 MiB.', stack: error.stack });
    expect(crossed.cause).toBeUndefined();
  });

  it('keeps the chain of causes, coded and foreign', () => {
    const root = new RangeError('offset 9');
    const middle = new EngineError('BAD_FILE', 'tensor outside the file', { cause: root });
    const crossed = cross(new EngineError('STORAGE', 'install failed', { cause: middle }));
    expect(crossed.cause).toBeInstanceOf(EngineError);
    expect(crossed.cause).toMatchObject({ code: 'BAD_FILE', message: 'tensor outside the file', stack: middle.stack });
    const crossedRoot = (crossed.cause as EngineError).cause;
    expect(crossedRoot).toBeInstanceOf(Error);
    expect(crossedRoot).toMatchObject({ name: 'RangeError', message: 'offset 9', stack: root.stack });
  });

  it('makes a foreign error INTERNAL with the foreign error as its cause', () => {
    const crossed = cross(new TypeError('x is not a function'));
    expect(crossed.code).toBe('INTERNAL');
    expect(crossed.message).toBe('TypeError: x is not a function');
    expect(crossed.cause).toMatchObject({ name: 'TypeError', message: 'x is not a function' });
  });

  it('makes a DOM AbortError ABORTED', () => {
    const crossed = cross(new DOMException('The read was aborted.', 'AbortError'));
    expect(crossed).toMatchObject({ code: 'ABORTED', message: 'The read was aborted.' });
    expect(crossed.cause).toMatchObject({ name: 'AbortError' });
  });

  it('makes another DOMException INTERNAL', () => {
    expect(cross(new DOMException('full', 'QuotaExceededError'))).toMatchObject({
      code: 'INTERNAL',
      message: 'QuotaExceededError: full',
    });
  });

  it.each([
    ['a string', 'out of luck', 'out of luck'],
    ['undefined', undefined, 'undefined'],
    ['an object without a text', Object.create(null), 'a value that cannot be shown as text'],
    ['a function', () => 1, '() => 1'],
  ])('makes %s that was thrown INTERNAL', (_what, thrown, message) => {
    expect(cross(thrown)).toMatchObject({ code: 'INTERNAL', message });
  });

  it('cuts a cyclic chain of causes', () => {
    const error = new Error('again');
    error.cause = error;
    let depth = 0;
    for (let cause: unknown = cross(error); cause instanceof Error; cause = cause.cause) depth++;
    expect(depth).toBe(9);
  });
});
