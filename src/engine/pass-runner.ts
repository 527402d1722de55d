/**
 * Runs one pass over a few tokens to its end: draft, submit, read the record, serve faults, resume.
 * Owns the fault loop; never knows what the tokens are for, nor how pages are forecast.
 */
import { orAborted, throwIfAborted } from '../aborts';
import { countAcceptedRows } from '../drafting/acceptance';
import { assert } from '../errors';
import type { ExpectedPage } from '../experts/pager';
import { throwIfLost } from '../gpu/device';
import { Submission } from '../gpu/pass';
import { encodeWords } from '../gpu/uniforms';
import { getMaskWord } from '../kernels/adjust-logits';
import { START } from '../model/forward';
import { CONTROL, NO_FAULT, TILED_ROWS } from '../model/run-state';
import type { PassForm } from '../model/steps';
import { encodeLogitChanges, type LogitChanges } from '../sampling/logit-changes';
import { KeptPrefix } from './kept-prefix';
import { LayerWaves, type Segment } from './layer-waves';
import { getNeeded, observeLayers } from './observed-layers';
import type { FaultRecord, PassCounters, PassPlan, PassRequest, PassResult } from './pass';
import { RecordLayout } from './pass-record';
import { PrefixSwitch } from './prefix-switch';
import { RunLength } from './run-length';
import type { Runtime } from './runtime';
import { SavedPrefixes } from './saved-prefixes';
import { TokenRuns } from './token-runs';

export class PassRunner {
  counters: PassCounters = createCounters();
  /** Time of one layer of one token, measured on passes without a fault; null until there was one. */
  layerMs: number | null = null;
  readonly runLength = new RunLength();
  /** What the KV cache has of prompts, and host RAM of others. */
  readonly prefixes: PrefixSwitch;

  readonly #keptPrefix: KeptPrefix;
  readonly #waves: LayerWaves;
  readonly #runs: TokenRuns;

  /** @param saved outlives the device. */
  constructor(
    private readonly runtime: Runtime,
    saved = new SavedPrefixes(),
  ) {
    this.#waves = new LayerWaves(runtime, () => this.counters.submits++);
    this.#runs = new TokenRuns(runtime, this.#waves);
    this.#keptPrefix = new KeptPrefix(runtime.manifest.config, runtime.plan.state);
    this.prefixes = new PrefixSwitch(runtime, this.#keptPrefix, saved);
  }

  resetCounters(): void {
    this.counters = createCounters();
  }

  /** Whether this token's first layers have run, in the submission of the token before it. */
  hasBegun(tokenId: number, position: number): boolean {
    return this.#runs.hasBegun(tokenId, position);
  }

  /** @throws EngineError; after one, the KV cache from `position` on is undefined, everything else is whole. */
  async run(request: PassRequest, plan: PassPlan, signal?: AbortSignal): Promise<PassResult> {
    throwIfLost(this.runtime.device);
    try {
      return await this.#run(request, plan, signal);
    } finally {
      // Also when a read has failed.
      this.#waves.restore();
    }
  }

  async #run(request: PassRequest, plan: PassPlan, signal: AbortSignal | undefined): Promise<PassResult> {
    const { device, manifest, state, pager, forward } = this.runtime;
    const { moeLayers, layers } = manifest.config;
    const { isChunk, logitRows, draftTokens = 0 } = request;
    const rows = request.tokenIds.length + draftTokens;
    const start = performance.now();
    const tripsBefore = this.counters.roundTrips;
    const form: PassForm = isChunk && (request.chunkRows ?? rows) >= TILED_ROWS ? 'tiles' : 'rows';
    this.#keptPrefix.begin(request.position, Math.max(rows, request.tokensPerSubmit ?? 1));
    const { tokensPerSubmit = 1 } = request;
    if (tokensPerSubmit > 1 || this.#goesOn(request))
      return await this.#runTokens(request, tokensPerSubmit, plan, signal);
    this.#runs.forget();
    if (form === 'tiles') await orAborted(this.runtime.tiles.load(), signal);
    // A chunk of many tokens needs nearly every expert of a layer: waiting for its routes would save little.
    const isStreamed = form === 'tiles' && !pager.isWhole;
    // Guesses that fail use pages too; only what belongs to the text is to tell the eviction what is in use.
    const isGuess = !isChunk && rows > 1;
    // What is done to the rows behind a guess depends on the guess, so they are sampled when all of them are known.
    const samplesApart = isGuess && request.getLogitChanges !== undefined;
    const layout = new RecordLayout(this.runtime, { rows, logitRows, draftTokens });
    const isAdjusted = await this.#writeInputs(request, isStreamed ? 0 : plan.runAhead);

    const submission = new Submission(device);
    if (draftTokens > 0) {
      const { tokenIds, position } = request;
      this.runtime.draft.encode(submission, tokenIds[0] as number, position, draftTokens, plan.runAhead, isAdjusted);
    }
    forward.encodeEmbed(submission, rows);
    let segment: Segment = isStreamed
      ? await this.#streamLayers(submission, rows, signal)
      : { submission, from: START };
    let observedLayers = isStreamed ? moeLayers.length : 0;
    for (;;) {
      // A segment ends behind a router, so that what the next one needs is known. At the experts of a layer its own router
      // is done.
      const { layer, stage } = segment.from;
      const until = layer + plan.segmentLayers - (stage === 'attention' ? 1 : 0);
      const isLast = until >= layers || plan.segmentLayers >= layers;
      forward.encodeLayers(segment.submission, form, segment.from, isLast ? layers : until, rows);
      if (isLast && logitRows > 0) {
        const headForm = logitRows >= TILED_ROWS ? form : 'rows';
        forward.encodeHead(segment.submission, headForm, rows - logitRows, logitRows);
        if (isAdjusted && !samplesApart) forward.encodeSampleAdjusted(segment.submission, 0);
        else if (request.sampling && !samplesApart) forward.encodeSample(segment.submission, logitRows);
      }
      const withLogits = isLast && request.readLogits && logitRows > 0;
      const bytes = await segment.submission.submitAndRead(layout.getParts(withLogits), state.readback);
      this.counters.submits++;
      this.counters.roundTrips++;
      const { control, routes, draftedIds, draftRoutes, logits, ...record } = layout.split(bytes, withLogits);
      const fault = control[CONTROL.faultLayer] as number;
      const routedLayers = isLast ? moeLayers.length : moeLayers.filter((layer) => layer <= until).length;
      const reached = fault === NO_FAULT ? routedLayers - 1 : fault;
      const hasFaulted = fault !== NO_FAULT;
      assert(!(hasFaulted && isStreamed), 'a streamed pass has no fault left');
      const observed = { routes, rows, first: observedLayers, last: reached, hasFaulted };
      const needed = observeLayers(this.runtime, { ...observed, isText: !isGuess, waves: this.#waves });
      observedLayers = Math.max(observedLayers, reached + 1);
      this.#waves.restore();
      if (hasFaulted) {
        throwIfAborted(signal);
        const faulted = { moeLayer: fault, rows, routes, runAhead: plan.runAhead };
        segment = await this.#serveFault(faulted, needed, plan.getExpected(faulted, draftRoutes), plan, signal);
      } else if (isLast) {
        this.counters.layersExecuted += control[CONTROL.layersExecuted] as number;
        if (request.chunkRows !== undefined && form === 'tiles')
          this.#keptPrefix.extend(request.position, request.tokenIds);
        if (rows === 1 && form === 'rows' && this.counters.roundTrips === tripsBefore + 1)
          this.#noteLayerTime(performance.now() - start, 1);
        const tokenIds = draftTokens > 0 ? draftedIds : request.tokenIds;
        const sampledIds = samplesApart ? await this.#sampleApart(request, tokenIds) : record.sampledIds;
        const acceptedRows = isGuess ? countAcceptedRows(tokenIds, sampledIds, request.endIds ?? new Set()) : rows;
        if (isGuess) this.#useRows(routes, rows, acceptedRows);
        return { tokenIds, acceptedRows, sampledIds, logits, routes };
      } else {
        throwIfAborted(signal);
        segment = { submission: new Submission(device), from: { layer: until, stage: 'experts' } };
      }
    }
  }

  /**
   * Runs up to the last MoE layer's combine step without a read-back: all experts of a layer pass through its slots, the
   * resident ones first.
   */
  #streamLayers(submission: Submission, rows: number, signal: AbortSignal | undefined): Promise<Segment> {
    const { manifest, pager } = this.runtime;
    const { moeLayers, moe } = manifest.config;
    const all = Array.from({ length: moe.experts }, (_, expert) => expert);
    const waves = [...moeLayers.keys()].map((moeLayer) => pager.planWaves(moeLayer, all, []));
    return this.#waves.run({ submission, from: START }, 'tiles', rows, waves, signal);
  }

  /** The request is for a lone token that has begun, and changes nothing of it. */
  #goesOn({ tokenIds, draftTokens = 0, position, getLogitChanges, sampling, isChunk }: PassRequest): boolean {
    const isLone = tokenIds.length === 1 && draftTokens === 0 && !isChunk && sampling !== null;
    return isLone && !getLogitChanges && this.hasBegun(tokenIds[0] as number, position);
  }

  async #runTokens(
    request: PassRequest,
    count: number,
    plan: PassPlan,
    signal: AbortSignal | undefined,
  ): Promise<PassResult> {
    const start = performance.now();
    const noDraft = new Uint32Array(0);
    const result = await this.#runs.run(
      request,
      count,
      plan,
      this.counters,
      ({ fault, needed }) => this.#serveFault(fault, needed, plan.getExpected(fault, noDraft), plan, signal),
      signal,
    );
    if (result.isSmooth) this.#noteLayerTime(performance.now() - start, count);
    return result;
  }

  #noteLayerTime(passMs: number, tokens: number): void {
    const { calibration, manifest } = this.runtime;
    const sampleMs = Math.max(0, passMs - calibration.roundTripMs) / (manifest.config.layers * tokens);
    this.layerMs = this.layerMs === null ? sampleMs : this.layerMs * 0.9 + sampleMs * 0.1;
  }

  /** Tells the eviction what the first `count` rows of a pass used, as if they had come one by one. */
  #useRows(routes: Uint32Array, rows: number, count: number): void {
    const { pager, manifest } = this.runtime;
    for (let row = 0; row < count; row++) {
      for (const moeLayer of manifest.config.moeLayers.keys())
        pager.use(moeLayer, getNeeded(this.runtime, routes, moeLayer, rows, row, row + 1));
    }
  }

  /** Samples every row of a pass that has run, each from its own changed logits. */
  async #sampleApart({ sampling, getLogitChanges }: PassRequest, tokenIds: ArrayLike<number>): Promise<Uint32Array> {
    const { device, state, forward, sampling: samplingBuffer } = this.runtime;
    assert(sampling, 'every row is sampled');
    const guesses = Array.from(tokenIds).slice(1);
    const firstPosition = sampling.at(-1) as number;
    let submission = new Submission(device);
    for (let row = 0; row < tokenIds.length; row++) {
      if (row > 0) {
        submission.submit();
        this.counters.submits++;
        submission = new Submission(device);
      }
      const words = [...sampling.slice(0, -1), firstPosition + row];
      device.handle.queue.writeBuffer(samplingBuffer, 0, encodeWords(words, 32));
      this.#writeLogitChanges((await getLogitChanges?.(guesses.slice(0, row))) ?? { deltas: [], mask: null });
      forward.encodeSampleAdjusted(submission, row);
      // The pass is over: its tokens have been read.
      submission.copy(state.control, CONTROL.nextToken * 4, state.tokens, row * 4, 4);
    }
    const part = { source: state.tokens, offsetBytes: 0, sizeBytes: tokenIds.length * 4 };
    const bytes = await submission.submitAndRead([part], state.readback);
    this.counters.submits++;
    this.counters.roundTrips++;
    return new Uint32Array(bytes);
  }

  #writeLogitChanges(changes: LogitChanges): void {
    const { device, plan, state } = this.runtime;
    const { queue } = device.handle;
    const capacity = plan.state.changedLogits;
    queue.writeBuffer(state.logitChanges, 0, encodeLogitChanges(changes, capacity));
    if (changes.mask) queue.writeBuffer(state.logitChanges, getMaskWord(capacity) * 4, changes.mask);
  }

  /** @returns whether the first row's logits are changed before it is sampled from. */
  async #writeInputs(request: PassRequest, runAhead: number): Promise<boolean> {
    const { tokenIds, position, draftTokens = 0, logitRows, sampling } = request;
    const { device, plan, state, step, sampling: samplingBuffer } = this.runtime;
    const { queue } = device.handle;
    const rows = tokenIds.length + draftTokens;
    assert(
      draftTokens === 0 || (tokenIds.length === 1 && logitRows === rows && sampling),
      'a draft begins with a token',
    );
    assert(rows > 0 && rows <= plan.state.rows, `${rows} rows fit into a pass of ${plan.state.rows}`);
    assert(logitRows <= Math.min(rows, plan.state.logitRows), `${logitRows} logit rows fit`);
    queue.writeBuffer(state.tokens, 0, Uint32Array.from(tokenIds));
    queue.writeBuffer(step, 0, encodeWords([rows, position, logitRows], 16));
    if (sampling) queue.writeBuffer(samplingBuffer, 0, encodeWords(sampling, 32));
    const changes = sampling ? ((await request.getLogitChanges?.([])) ?? null) : null;
    if (changes) this.#writeLogitChanges(changes);
    queue.writeBuffer(state.control, 0, Uint32Array.of(NO_FAULT, 0, runAhead, 0));
    return changes !== null;
  }

  /**
   * Uploads what a layer misses, and what is expected behind it; says where to go on: same kernels, same order. Layers of which
   * guesses are expected to want more pages than there are slots go in waves without being asked.
   */
  async #serveFault(
    { moeLayer, rows, routes }: FaultRecord,
    needed: readonly number[],
    expected: readonly ExpectedPage[],
    { segmentLayers, costs }: PassPlan,
    signal: AbortSignal | undefined,
  ): Promise<Segment> {
    const { device, manifest, state, pager } = this.runtime;
    const { moeLayers } = manifest.config;
    const layer = moeLayers[moeLayer] as number;
    let segment: Segment = { submission: new Submission(device), from: { layer, stage: 'experts' } };
    device.handle.queue.writeBuffer(state.control, 0, Uint32Array.of(NO_FAULT));
    const isFitting = needed.length <= pager.slots;
    // Reads of what is needed go first.
    const ensured = isFitting ? pager.ensure(moeLayer, needed, signal) : null;
    const read = costs && pager.readAhead(expected, costs);
    if (ensured) pager.counters.demandBytes += await ensured;
    else {
      const lastRow = getNeeded(this.runtime, routes, moeLayer, rows, rows - 1, rows);
      segment = await this.#waves.run(segment, 'rows', rows, [pager.planWaves(moeLayer, needed, lastRow)], signal);
      // The last wave's slots are those that the pages of other layers of its group would take.
      if (pager.sharesPages) segment = this.#waves.flush(segment);
    }
    await read;
    const endLayer = moeLayers.filter((behind) => behind < layer + segmentLayers).length;
    const ahead = rows > 1 ? pager.planAhead(expected, endLayer) : [];
    const planned = ahead.map((waves) => [waves.moeLayer, new Set(waves.sets.flat())] as const);
    const inWaves = new Map(planned);
    const inSlots = expected.filter((page) => !inWaves.get(page.moeLayer)?.has(page.expert));
    pager.prefetch(inSlots, isFitting ? { moeLayer, needed } : undefined);
    return this.#waves.run(segment, 'rows', rows, ahead, signal);
  }
}

function createCounters(): PassCounters {
  return { roundTrips: 0, submits: 0, layersExecuted: 0, unreachedTokens: 0 };
}
