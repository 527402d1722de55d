/** Every table of `npm run perf` by its name, and what measures it. Measures nothing by itself. */
import { measureKernels } from './kernel-table.ts';
import { measureDelayedLadder, measureLadder, measurePredictors } from './ladder.ts';
import type { Table } from './measurement.ts';
import { measureFaults, measureShadow, measureStorage } from './page-tables.ts';
import { measurePeers } from './peer-table.ts';
import type { TableName } from './results.ts';
import { measureDecode, measurePrefill } from './speed-tables.ts';
import { measureStructured } from './structured-table.ts';

export const tableMeasures: Readonly<Record<TableName, Table>> = {
  kernels: measureKernels,
  ladder: measureLadder,
  'ladder-delayed': measureDelayedLadder,
  predictors: measurePredictors,
  shadow: measureShadow,
  decode: measureDecode,
  prefill: measurePrefill,
  structured: measureStructured,
  peers: measurePeers,
  faults: measureFaults,
  storage: measureStorage,
};
