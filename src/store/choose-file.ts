/** Which of many files is the model: of a repository or a folder, by their paths and sizes. Pure. */
import { EngineError } from '../errors';

/** Of several GGUF files, the first that is here is taken: small, and near the full model. Then the smallest. */
const PREFERRED_TYPES = ['Q4_0', 'Q4_K_M', 'Q4_K_S', 'Q5_K_M', 'Q5_0', 'Q8_0', 'MXFP4', 'Q6_K', 'BF16', 'F16'];

/**
 * Path of the GGUF file to read, or null for a folder with safetensors files.
 * @param name what the files are of, for messages. @param asked the one that the caller named.
 * @throws EngineError `BAD_ARGUMENT` when there is no model, or not the one that was named.
 */
export function chooseModelFile(
  name: string,
  asked: string | undefined,
  files: readonly { readonly path: string; readonly size: number }[],
  onWarning: ((message: string) => void) | undefined,
): string | null {
  const models = files.filter(
    // Of a split file its first part; never a projector for images, which is no model of its own.
    ({ path }) => /\.gguf$/i.test(path) && !/mmproj/i.test(path) && !/-(?!00001)\d{5}-of-\d{5}\.gguf$/i.test(path),
  );
  const list = models.map(({ path }) => path).join(', ');
  if (asked !== undefined) {
    if (models.some(({ path }) => path === asked)) return asked;
    throw new EngineError('BAD_ARGUMENT', `${name}: no such model file; there is ${list || 'no GGUF file'}`);
  }
  if (models.length === 0) {
    if (files.some(({ path }) => path === 'config.json') && files.some(({ path }) => /\.safetensors$/.test(path)))
      return null;
    throw new EngineError('BAD_ARGUMENT', `${name}: it has neither a GGUF file nor safetensors with config.json`);
  }
  const ofType = (type: string) =>
    models.find(({ path }) => new RegExp(`(^|[^A-Za-z0-9])${type}(?![A-Za-z0-9_])`, 'i').test(path));
  const smallest = models.reduce((least, model) => (model.size < least.size ? model : least));
  const chosen = PREFERRED_TYPES.map(ofType).find((model) => model !== undefined) ?? smallest;
  if (models.length > 1) onWarning?.(`${name} has ${models.length} model files; ${chosen.path} is used. All: ${list}`);
  return chosen.path;
}
