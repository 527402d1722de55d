/**
 * A model on a web server: a GGUF file with its neighbours (the parts of a split file), or a folder whose URL ends in "/".
 * Owns how a neighbour's URL is made; http-source.ts reads.
 */
import type { CheckpointFiles } from '../checkpoint/checkpoint-files';
import { EngineError } from '../errors';
import { findHttpSource, type HttpSourceOptions, openHttpSource } from './http-source';

/**
 * The checkpoint that a URL names.
 * @throws EngineError `BAD_ARGUMENT` when it is no URL.
 */
export function createHttpFiles(url: string, options: HttpSourceOptions = {}): CheckpointFiles {
  const base = globalThis.location?.href;
  if (!URL.canParse(url, base)) {
    throw new EngineError('BAD_ARGUMENT', `model URL "${url}" cannot be parsed; give an http(s) URL of a model file`);
  }
  const { href, pathname, search } = new URL(url, base);
  /** A file that has to be there was. */
  let isServed = false;
  const file = pathname.slice(pathname.lastIndexOf('/') + 1);
  const ggufPath = file === '' ? null : file + search;
  return {
    name: href,
    ggufPath,
    async find(path, signal = options.signal, isOptional = false) {
      // What was asked for has to be there; a neighbour need not.
      if (path === ggufPath) return openHttpSource(href, { ...options, signal });
      // Buckets that may not be listed answer 403 for what they do not have; where all is refused it is a permission.
      const isRefused = ({ status }: Response): boolean => {
        if (status !== 403 || !isOptional || !isServed) return false;
        options.onWarning?.(
          `${path} is refused by the server (status 403), and counts as absent; if it is there, give the page the permission to read it`,
        );
        return true;
      };
      const source = await findHttpSource(new URL(path, href).href, { ...options, signal }, isRefused);
      isServed ||= source !== null;
      return source;
    },
  };
}
