/** Where an answer's experts came from, and which layers waited for them; folded away. */
import type { GenerateStats, LoadedModel } from '../../src/index';
import { formatBytes, formatCount, formatPercent } from '../numbers';
import { type Fact, Facts } from './facts';

interface PagingDetailsProps {
  readonly stats: GenerateStats;
  /** Null while none is loaded: the layers are then counted, not named. */
  readonly model: LoadedModel | null;
}

export function PagingDetails({ stats, model }: PagingDetailsProps) {
  const { uploadBytes, hostCache, draft } = stats;
  const facts: Fact[] = [
    ['Copied on a fault', formatBytes(uploadBytes.demand)],
    ['Copied ahead, used', formatBytes(uploadBytes.useful)],
    ['Copied ahead, unused', formatBytes(uploadBytes.wasted)],
    ['From RAM', `${formatCount(hostCache.hits)} experts *`],
    ['From storage', `${formatCount(hostCache.reads)} experts, ${formatBytes(hostCache.readBytes)} *`],
    ['Guessed tokens', `${formatCount(draft.accepted)} of ${formatCount(draft.proposed)} held`],
    ['Passes by guess', getPasses(draft.sources)],
    ['GPU memory', `${formatBytes(stats.peakGpuBytes)} at most, ${formatBytes(stats.plannedGpuBytes)} planned`],
  ];
  return (
    <details class="paging">
      <summary>Paging in detail</summary>
      <div class="paging-body">
        <Facts facts={facts} />
        <p>* since the model was loaded</p>
        <table>
          <caption>Experts needed, by layer</caption>
          <thead>
            <tr>
              <th scope="col">layer</th>
              <th scope="col">needed</th>
              <th scope="col">there</th>
              <th scope="col">hit rate</th>
              <th scope="col">faults</th>
            </tr>
          </thead>
          <tbody>
            {stats.byLayer.map(({ needed, present, faults }, index) => (
              <tr key={index}>
                <th scope="row">{model?.moeLayerIndices[index] ?? index}</th>
                <td>{formatCount(needed)}</td>
                <td>{formatCount(present)}</td>
                <td>{needed === 0 ? '–' : formatPercent(present / needed)}</td>
                <td>{formatCount(faults)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

/** Where the guesses of an answer's passes came from. */
function getPasses({ off, self, lookup, table }: GenerateStats['draft']['sources']): string {
  return `${formatCount(off)} none, ${formatCount(self)} own experts, ${formatCount(lookup + table)} text so far`;
}
