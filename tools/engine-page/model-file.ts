/** The model that `--model` names: a URL, a local file served to the page, or the embedded one. Never reads its bytes. */
import { readFile, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { root } from '../program.ts';
import { ToolError } from '../tool-error.ts';
import { getModelRoute } from './page-server.ts';

export interface FoundModel {
  /** As the page asks for it: absolute, or a path on the page's own server. */
  readonly url: string;
  readonly file?: { readonly route: string; readonly path: string };
}

/** @throws ToolError `BAD_ARGUMENT`, `UNSUPPORTED`. */
export async function findModel(model: string | undefined): Promise<FoundModel> {
  if (model !== undefined && /^https?:\/\//i.test(model)) {
    if (!URL.canParse(model)) throw new ToolError('BAD_ARGUMENT', `--model is "${model}", which is no URL; correct it`);
    return { url: model };
  }
  const path = model === undefined ? await findEmbeddedModel() : resolve(model);
  const found = await stat(path).catch(() => undefined);
  if (!found)
    throw new ToolError('BAD_ARGUMENT', `--model is "${path}", which does not exist; give a GGUF file or a URL`);
  if (found.isDirectory()) {
    throw new ToolError(
      'UNSUPPORTED',
      `--model is the folder "${path}"; this version reads GGUF files, so name one in it`,
    );
  }
  const route = getModelRoute(basename(path));
  return { url: route, file: { route, path } };
}

async function findEmbeddedModel(): Promise<string> {
  const folder = join(root, 'public');
  const { url } = JSON.parse(await readFile(join(folder, 'models', 'default.json'), 'utf8'));
  return join(folder, url);
}
