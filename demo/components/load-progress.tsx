/** The three steps of a load, with bytes or pieces done of how many. */
import type { LoadSteps, ModelChoice } from '../model-session';
import { formatBytes } from '../numbers';

interface LoadProgressProps {
  readonly choice: ModelChoice;
  readonly steps: LoadSteps;
}

interface Step {
  readonly label: string;
  readonly done: number;
  readonly total: number;
  readonly text: string;
  /** Whether a later step has begun. */
  readonly passed: boolean;
  readonly begun: boolean;
}

export function LoadProgress({ choice, steps }: LoadProgressProps) {
  const list = getSteps(choice, steps);
  const current = list.find((step) => step.begun && !step.passed);
  return (
    <section class="card load" aria-label="Loading the model">
      <h2>{getTitle(choice)}</h2>
      <p class="quiet">
        {choice.kind === 'file'
          ? 'It is read where it is: this browser keeps no copy and needs the file again after a reload.'
          : 'The first visit installs it into this browser; after that it only loads.'}
      </p>
      <ol>
        {list.map((step) => (
          <li key={step.label} data-state={step.passed ? 'passed' : step.begun ? 'current' : 'waiting'}>
            <span class="step-label">{step.label}</span>
            <span class="step-text">{step.text}</span>
            <progress
              aria-label={step.label}
              max={Math.max(step.total, 1)}
              value={step.passed && step.total === 0 ? 1 : step.done}
            />
          </li>
        ))}
      </ol>
      {/* Steps are announced, their numbers are not: they change too fast to be read out. */}
      <p class="visually-hidden" role="status">
        {current?.label}
      </p>
    </section>
  );
}

function getTitle(choice: ModelChoice): string {
  if (choice.kind === 'embedded') return 'Getting the model ready';
  return `Loading ${choice.kind === 'file' ? choice.file.name : choice.url}`;
}

function getSteps(choice: ModelChoice, { install, weights, compile }: LoadSteps): Step[] {
  const later = { install: Boolean(weights || compile), weights: Boolean(compile) };
  const headers: Step = {
    label: 'Headers of the file',
    done: 0,
    total: 0,
    text: later.install ? 'read' : 'reading…',
    passed: later.install,
    begun: true,
  };
  return [
    // A file is read in place: there is nothing to install.
    choice.kind === 'file' ? headers : getInstallStep(install, later.install),
    {
      label: 'Weights to the GPU',
      done: weights?.doneBytes ?? 0,
      total: weights?.totalBytes ?? 0,
      text: weights ? `${formatBytes(weights.doneBytes)} of ${formatBytes(weights.totalBytes)}` : '',
      passed: later.weights && weights?.doneBytes === weights?.totalBytes,
      begun: Boolean(weights),
    },
    {
      label: 'Shaders',
      done: compile?.done ?? 0,
      total: compile?.total ?? 0,
      text: compile ? `${compile.done} of ${compile.total} compiled` : '',
      passed: Boolean(compile && compile.done === compile.total),
      begun: Boolean(compile),
    },
  ];
}

function getInstallStep(install: LoadSteps['install'], passed: boolean): Step {
  const { doneBytes: done, totalBytes: total } = install ?? { doneBytes: 0, totalBytes: 0 };
  let text = passed ? 'already installed' : 'looking…';
  if (install) text = `${formatBytes(done)} of ${formatBytes(total)}`;
  if (passed && done < total) text += '; the rest follows';
  return { label: 'Install into this browser', done, total, text, passed, begun: true };
}
