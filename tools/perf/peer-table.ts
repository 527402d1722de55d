/** The table of other runtimes: decoding and a prompt of the same model, in the same page, in turn. */
import { type Measurement, measureRounds, type Round } from './measurement.ts';
import { type OpenPeer, type PeerJob, type PeerName, type PeerSample, peerNames } from './peers/peer-protocol.ts';
import type { Metrics, ResultRow } from './results.ts';

const promptTokens = 128;
/** The shortest prompt that runs in tiles: the first one waits for their kernels. */
const firstPromptTokens = 16;
/** Steps of a runtime that takes seconds for each. */
const peerTokens = 2;

const residentRow = 'webmoe 100%';
const ownRows = [
  { row: residentRow, percent: 100 },
  { row: 'webmoe 50%', percent: 50 },
];

export async function measurePeers(measurement: Measurement): Promise<ResultRow[]> {
  const { bench, store, tokens, report, peers } = measurement;
  if (!peers) throw new Error('the table of peers needs other runtimes');
  const prompt = await bench.getPrompt(store, promptTokens);
  const firstPrompt = await bench.getPrompt(store, firstPromptTokens);
  const getJob = ({ ids, text }: typeof prompt, tokens: number): PeerJob => ({
    promptIds: ids,
    promptText: text,
    tokens,
  });
  const opened = new Map<PeerName, OpenPeer>();
  for (const name of peerNames) {
    report(`peers: opening ${name}`);
    try {
      const peer = await peers.get(name).open(peers.setUp);
      opened.set(name, peer);
      // Pipelines for prompts of more than a token are made by the first.
      await peers.get(name).run(getJob(firstPrompt, 1));
      if (peer.remark) report(`peers: ${name}: ${peer.remark}`);
    } catch (error) {
      // Said, and not measured: a check on it is missed.
      opened.delete(name);
      report(`peers: ${name} is not measured: ${(error as Error).message}`);
    }
  }
  const measureOwn = async (percent: number): Promise<Metrics> => {
    const { answers } = await bench.generate({
      store,
      expertBudget: { percent },
      predictors: 'shipped',
      prompts: [{ promptTokens: firstPromptTokens }, { promptTokens }],
      tokens,
    });
    const stats = answers[1]?.stats;
    const msPerToken = stats ? stats.decodeMs / (stats.generatedTokens - 1) : Number.NaN;
    return getSpeeds({ promptTokens, prefillMs: stats?.prefillMs ?? Number.NaN, msPerToken });
  };
  const rows = [...ownRows, ...[...opened.keys()].map((name) => ({ row: name, name }))];
  const results = await measureRounds(
    'peers',
    measurement,
    rows,
    async (row) => {
      if ('percent' in row) return measureOwn(row.percent);
      const peer = opened.get(row.name);
      const sample = await peers.get(row.name).run(getJob(prompt, peerTokens));
      return {
        ...getSpeeds(sample),
        threads: { value: peer?.threads ?? Number.NaN, unit: 'threads' },
        shareOnGpu: { value: peer?.shareOnGpu ?? Number.NaN, unit: 'share' },
      };
    },
    comparePeers,
  );
  for (const name of opened.keys()) await peers.get(name).close();
  return results;
}

function getSpeeds({ promptTokens: fed, prefillMs, msPerToken }: Omit<PeerSample, 'tokenIds'>): Metrics {
  return {
    tokensPerSecond: { value: 1000 / msPerToken, unit: 'tokens/s' },
    promptTokensPerSecond: { value: (fed / prefillMs) * 1000, unit: 'tokens/s' },
  };
}

/** How many times as fast webmoe is with every expert resident. */
export function comparePeers(round: Round): Round {
  const own = round.get(residentRow);
  const getRatio = (metrics: Metrics, metric: string): number =>
    (own?.[metric]?.value ?? Number.NaN) / (metrics[metric]?.value ?? Number.NaN);
  return new Map(
    [...round].map(([row, metrics]) => [
      row,
      {
        ...metrics,
        decodeRatio: { value: getRatio(metrics, 'tokensPerSecond'), unit: 'ratio' },
        prefillRatio: { value: getRatio(metrics, 'promptTokensPerSecond'), unit: 'ratio' },
      },
    ]),
  );
}
