/** What an answer costs: live while it streams, the engine's totals when it is done. */
import type { GenerateStats } from '../../src/index';
import type { Answer } from '../conversation';
import { formatBytes, formatCount, formatPercent } from '../numbers';

interface Figure {
  readonly name: string;
  readonly value: string;
  readonly title: string;
}

export function AnswerStats({ answer }: { readonly answer: Answer }) {
  const figures = getFigures(answer);
  if (figures.length === 0) return null;
  return (
    <dl class="stats" aria-label="Statistics of this answer" aria-live="off">
      {figures.map(({ name, value, title }) => (
        <div key={name} title={title}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** None before the first token. */
export function getFigures({ live, result }: Pick<Answer, 'live' | 'result'>): Figure[] {
  if (!live) return [];
  const stats = result?.stats;
  const figures: Figure[] = [];
  const tokensPerSecond = stats ? getTokensPerSecond(stats) : live.tokensPerSecond;
  if (tokensPerSecond !== null) {
    figures.push({ name: 'tokens/s', value: tokensPerSecond.toFixed(1), title: 'Speed of the answer’s tokens' });
  }
  figures.push(
    { name: 'tokens', value: formatCount(stats?.generatedTokens ?? live.tokens), title: 'Tokens written' },
    {
      name: 'experts on the GPU',
      value: formatPercent(live.residentShare),
      title: 'Share of all experts that are resident',
    },
    {
      name: 'hit rate',
      value: formatPercent(stats?.hitRate ?? live.hitRate),
      title: 'Share of the needed experts that were already on the GPU',
    },
  );
  if (stats) {
    const { demand, useful, wasted } = stats.uploadBytes;
    // The first token comes with the prompt; these totals are over the others.
    const decoded = Math.max(stats.generatedTokens - 1, 1);
    figures.push(
      {
        name: 'faults/token',
        value: (stats.faultingLayers / decoded).toFixed(2),
        title: 'How many layers per token had to wait for an expert that was not on the GPU',
      },
      {
        name: 'round trips/token',
        value: (stats.roundTrips / decoded).toFixed(2),
        title: 'How often per token the page waited for the GPU',
      },
      {
        name: 'tokens/pass',
        value: (decoded / Math.max(stats.draft.passes, 1)).toFixed(2),
        title: 'Tokens that one exact pass gave: one, and every guess before it that held',
      },
      { name: 'paged in', value: formatBytes(demand + useful + wasted), title: 'Bytes of experts copied to the GPU' },
    );
  }
  return figures;
}

/** The first token comes with the prompt: its time is no part of `decodeMs`. */
function getTokensPerSecond({ generatedTokens, decodeMs }: GenerateStats): number | null {
  return generatedTokens > 1 && decodeMs > 0 ? ((generatedTokens - 1) / decodeMs) * 1000 : null;
}
