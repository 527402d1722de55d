/** How long code took by itself: others may keep the processor busy, and then the clock says nothing of it. */

/** Starts counting. @returns a function that gives the ms so far: of the clock or of this process, whichever is less. */
export function startSpentTime(): () => number {
  const startMs = performance.now();
  const start = process.cpuUsage();
  return () => {
    const { user, system } = process.cpuUsage(start);
    return Math.min(performance.now() - startMs, (user + system) / 1000);
  };
}
