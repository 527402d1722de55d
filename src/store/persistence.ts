/**
 * Asks the browser to keep what is installed also when the disk runs low. Never fails: a model that is taken away is
 * installed again.
 */

/** Whether the browser will; null where it cannot be asked, as in workers. */
export async function askPersistence(): Promise<boolean | null> {
  const storage = globalThis.navigator?.storage;
  if (typeof storage?.persist !== 'function') return null;
  try {
    return (await storage.persisted()) || (await storage.persist());
  } catch {
    return null;
  }
}
