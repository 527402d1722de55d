/**
 * The worker's entry: one local engine, served to the page that started the worker.
 * Owns nothing else; everything it does is in engine/ and expose.ts.
 */
import type { Endpoint } from 'comlink';
import { createLocalEngine } from '../engine/local-engine';
import { exposeEngine } from './expose';
import { openPathModel } from './path-model';

// TypeScript takes this file's global scope for a window, whose postMessage has other parameters than a worker's.
exposeEngine(createLocalEngine({ openPathModel }), globalThis as unknown as Endpoint);
