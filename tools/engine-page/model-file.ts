/** The model that `--model` names: a URL, local files served to the page, or the embedded one. Never reads their bytes. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { ForecastFiles } from '../../src/engine/engine.ts';
import { root } from '../program.ts';
import { ToolError } from '../tool-error.ts';
import { getModelRoute, type ServedFile } from './page-server.ts';

/** What a folder with safetensors files is read from. */
const FOLDER_FILES = /^[\w.-]+\.(safetensors|json|jinja)$/;

export interface FoundModel {
  /** As the page asks for it: absolute, or a path on the page's own server. */
  readonly url: string;
  /** Of a local model: what the page's server has to serve, the model first. */
  readonly files: readonly ServedFile[];
  /** What comes with the embedded model, or lies beside a local one, as the page asks for it. */
  readonly forecast: ForecastFiles;
}

/** @throws ToolError `BAD_ARGUMENT`. */
export async function findModel(model: string | undefined): Promise<FoundModel> {
  if (model?.startsWith('hf:')) return { url: model, files: [], forecast: {} };
  if (model !== undefined && /^https?:\/\//i.test(model)) {
    if (!URL.canParse(model)) throw new ToolError('BAD_ARGUMENT', `--model is "${model}", which is no URL; correct it`);
    return { url: model, files: [], forecast: {} };
  }
  const embedded = model === undefined ? await findEmbeddedModel() : undefined;
  const path = embedded?.path ?? resolve(model ?? '');
  const found = await stat(path).catch(() => undefined);
  if (!found)
    throw new ToolError(
      'BAD_ARGUMENT',
      `--model is "${path}", which does not exist; give a GGUF file, a folder with safetensors files, or a URL`,
    );
  if (found.isDirectory()) {
    const route = `${getModelRoute(basename(path))}/`;
    const names = (await readdir(path)).filter((name) => FOLDER_FILES.test(name));
    const files = names.map((name) => ({ route: route + encodeURIComponent(name), path: join(path, name) }));
    return { url: route, files, forecast: {} };
  }
  const serve = (file: string): ServedFile => ({ route: getModelRoute(basename(file)), path: file });
  const { route } = serve(path);
  const taught = embedded?.taught === undefined ? undefined : serve(embedded.taught);
  const learned = serve(embedded?.learned ?? path.replace(/(\.[^./\\]+)?$/, '.routes.onnx'));
  return {
    url: route,
    files: [serve(path), ...(await listParts(path)).map(serve), learned, ...(taught ? [taught] : [])],
    forecast: { learnedUrl: learned.route, ...(taught ? { taughtUrl: taught.route } : {}) },
  };
}

/** The other parts of a split file whose first part is given. */
async function listParts(path: string): Promise<string[]> {
  const [, stem, count] = /^(.*)-00001-of-(\d{5})\.gguf$/.exec(basename(path)) ?? [];
  if (stem === undefined) return [];
  const names = await readdir(dirname(path));
  const others = names.filter((name) => name.startsWith(`${stem}-`) && name.endsWith(`-of-${count}.gguf`));
  return others.map((name) => join(dirname(path), name)).filter((part) => part !== path);
}

async function findEmbeddedModel(): Promise<{ path: string; taught?: string; learned?: string }> {
  const folder = join(root, 'public');
  const { url, forecast } = JSON.parse(await readFile(join(folder, 'models', 'default.json'), 'utf8'));
  return {
    path: join(folder, url),
    taught: join(folder, forecast.taughtUrl),
    learned: join(folder, forecast.learnedUrl),
  };
}
