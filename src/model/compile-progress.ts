/** Counts pipelines while they compile side by side. Owns the count; never knows a kernel. */
import { assert } from '../errors';

export interface CompileProgress {
  track<T>(compile: Promise<T>): Promise<T>;
  /** One kernel per form that occurs; forms are compared by value. */
  byForm<F, T>(forms: Iterable<F>, compile: (form: F) => Promise<T>): Promise<(form: F) => T>;
}

/** @param onProgress pipelines compiled so far, and in all. */
export function createCompileProgress(onProgress: (done: number, total: number) => void): CompileProgress {
  let total = 0;
  let done = 0;
  const track = <T>(compile: Promise<T>): Promise<T> => {
    total++;
    return compile.then((kernel) => {
      onProgress(++done, total);
      return kernel;
    });
  };
  return {
    track,
    async byForm(forms, compile) {
      const distinct = new Map([...forms].map((form) => [JSON.stringify(form), form]));
      const kernels = new Map(
        await Promise.all([...distinct].map(async ([key, form]) => [key, await track(compile(form))] as const)),
      );
      return (form) => {
        const kernel = kernels.get(JSON.stringify(form));
        assert(kernel, `the kernel for ${JSON.stringify(form)} is compiled`);
        return kernel;
      };
    },
  };
}
