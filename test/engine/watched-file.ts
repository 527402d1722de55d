/** A user's file that can be made unreadable. Owns the pretence only; `vi.restoreAllMocks` ends it. */
import { vi } from 'vitest';

/** Makes the user's file unreadable while `isGone`, as one that was moved. */
export function watchFile(): { isGone: boolean } {
  const file = { isGone: false };
  const { slice } = Blob.prototype;
  vi.spyOn(Blob.prototype, 'slice').mockImplementation(function (this: Blob, ...args) {
    if (file.isGone) throw new DOMException('the file is gone', 'NotReadableError');
    return slice.apply(this, args);
  });
  return file;
}
