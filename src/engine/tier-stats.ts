/** The tiers of a loaded model side by side, from the counters of those who own them. Pure but for reading counters. */
import { sumBytes } from '../gpu/memory';
import type { Runtime } from './runtime';
import type { TierStats } from './tiers';

export function getTierStats({ plan, manifest, pager, staging, host, reader, request }: Runtime): TierStats {
  const { counters } = reader;
  const pageBytes = manifest.pageLayouts.map((layout) => layout.pageBytes);
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  return {
    gpu: {
      pages: pager.counters.present,
      bytes: null,
      usedBytes: pager.residentBytes,
      budgetBytes: sum(pageBytes) * plan.slotsPerLayer,
    },
    ram: { pages: host.counters.hits, bytes: null, usedBytes: host.usedBytes, budgetBytes: host.budgetBytes },
    store: {
      pages: counters.storeReads,
      bytes: counters.storeBytes,
      usedBytes: reader.storedBytes,
      budgetBytes: request.storeBudgetBytes ?? null,
    },
    source: { pages: counters.sourceReads, bytes: counters.sourceBytes, usedBytes: null, budgetBytes: null },
    staged: {
      ...host.past,
      usedBytes: staging.sizeBytes,
      budgetBytes: sumBytes(plan.requests.staging),
    },
    repairs: counters.repairs,
  };
}
