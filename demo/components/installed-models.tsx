/** What this browser keeps, and how to get the room back. */
import { useCallback, useEffect, useState } from 'preact/hooks';
import type { Engine, EngineError, InstalledModel } from '../../src/index';
import { formatBytes } from '../numbers';
import { asEngineError } from '../thrown';
import { ErrorNotice } from './error-notice';

interface InstalledModelsProps {
  readonly engine: Engine;
  /** The model in use cannot be removed. */
  readonly loadedId: string | null;
}

export function InstalledModels({ engine, loadedId }: InstalledModelsProps) {
  const [models, setModels] = useState<readonly InstalledModel[]>([]);
  const [error, setError] = useState<EngineError | null>(null);
  const update = useCallback(
    async (change?: () => Promise<void>) => {
      try {
        await change?.();
        setModels(await engine.listModels('indexeddb'));
        setError(null);
      } catch (thrown) {
        setError(asEngineError(thrown));
      }
    },
    [engine],
  );
  useEffect(() => {
    void update();
  }, [update, loadedId]);
  return (
    <fieldset>
      <legend>Installed in this browser</legend>
      {error && <ErrorNotice error={error} />}
      {models.length === 0 && !error && <p class="quiet">Nothing.</p>}
      <ul class="installed">
        {models.map(({ modelId, name, sourceBytes }) => (
          <li key={modelId}>
            <span>
              {name} <span class="quiet">{formatBytes(sourceBytes)}</span>
            </span>
            {modelId === loadedId ? (
              <span class="quiet">in use</span>
            ) : (
              <button
                type="button"
                aria-label={`Remove ${name}`}
                onClick={() => void update(() => engine.removeModel('indexeddb', modelId))}
              >
                Remove
              </button>
            )}
          </li>
        ))}
      </ul>
    </fieldset>
  );
}
