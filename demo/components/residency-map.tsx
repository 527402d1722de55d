/**
 * Which experts are on the GPU: one row per layer, one square per expert.
 * Three SVG paths, one per state: the page's styles colour them, and a new map is three attributes and not a thousand
 * elements. Redrawn when its props change, so at most as often as they do.
 */
import { formatPercent } from '../numbers';

interface ResidencyMapProps {
  /** [moeLayers, experts]; 0 absent, 1 resident, 2 resident and used by the latest token. */
  readonly pages: Uint8Array;
  readonly moeLayerIndices: readonly number[];
  readonly experts: number;
  readonly slotsPerLayer: number;
}

const STATES = [
  { state: 2, name: 'used', label: 'used by the latest token' },
  { state: 1, name: 'resident', label: 'also on the GPU' },
  { state: 0, name: 'absent', label: 'not on the GPU' },
] as const;

/** Widest square, in CSS pixels; a map wider than its column shrinks. */
const CELL_PX = 15;

export function ResidencyMap({ pages, moeLayerIndices, experts, slotsPerLayer }: ResidencyMapProps) {
  const layers = moeLayerIndices.length;
  const counts = STATES.map(({ state }) => pages.reduce((count, page) => count + (page === state ? 1 : 0), 0));
  const [used = 0, unused = 0] = counts;
  const resident = used + unused;
  const text = `${resident} of ${pages.length} experts are on the GPU (${formatPercent(resident / pages.length)}), ${slotsPerLayer} slots per layer.`;
  return (
    <figure class="residency-map">
      <div class="residency-grid">
        <p class="residency-layers" aria-hidden="true">
          <span>layer {moeLayerIndices[0]}</span>
          {layers > 1 && <span>{moeLayerIndices.at(-1)}</span>}
        </p>
        <svg
          role="img"
          aria-label={`Map of ${layers} layers with ${experts} experts each. ${text}`}
          width={experts * CELL_PX}
          viewBox={`0 0 ${experts} ${layers}`}
        >
          {STATES.map(({ state, name }) => (
            <path key={name} class={name} d={getCellsPath(pages, experts, state)} />
          ))}
        </svg>
        <p class="residency-experts" aria-hidden="true">
          <span>expert 0</span>
          <span>{experts - 1}</span>
        </p>
      </div>
      <figcaption>
        <ul class="legend">
          {STATES.map(({ name, label }, index) => (
            <li key={name}>
              <svg aria-hidden="true" width="12" height="12" viewBox="0 0 1 1">
                <path class={name} d={CELL_PATH} />
              </svg>
              <span class="count">{counts[index]}</span> {label}
            </li>
          ))}
        </ul>
      </figcaption>
    </figure>
  );
}

/** One square with its gap, from the place the path is at. */
const CELL_PATH = 'M.08 .08h.84v.84h-.84z';

function getCellsPath(pages: Uint8Array, experts: number, state: number): string {
  let path = '';
  pages.forEach((page, index) => {
    if (page !== state) return;
    path += `M${(index % experts) + 0.08} ${Math.floor(index / experts) + 0.08}h.84v.84h-.84z`;
  });
  return path;
}
