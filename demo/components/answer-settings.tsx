/** How answers are made: the system prompt and the sampling settings. They count from the next answer on. */
import { type AnswerSettings, arePreferencesKept, DEFAULT_ANSWER_SETTINGS, SETTING_RANGES } from '../preferences';

interface AnswerSettingsProps {
  readonly settings: AnswerSettings;
  readonly onChange: (settings: AnswerSettings) => void;
}

const sliders = [
  { name: 'temperature', label: 'Temperature', hint: '0 always takes the likeliest token' },
  { name: 'topP', label: 'Top-p', hint: '1 leaves nothing out' },
  { name: 'maxTokens', label: 'Longest answer', hint: 'tokens' },
] as const;

export function AnswerSettingsForm({ settings, onChange }: AnswerSettingsProps) {
  return (
    <fieldset>
      <legend>Answers</legend>
      <label class="field">
        <span>System prompt</span>
        <textarea
          rows={2}
          placeholder="None"
          value={settings.systemPrompt}
          onInput={(event) => onChange({ ...settings, systemPrompt: event.currentTarget.value })}
        />
      </label>
      {sliders.map(({ name, label, hint }) => {
        const { min, max, step } = SETTING_RANGES[name];
        return (
          <label class="field slider" key={name}>
            <span>{label}</span>
            <input
              type="range"
              min={min}
              max={max}
              step={step}
              value={settings[name]}
              onInput={(event) => onChange({ ...settings, [name]: event.currentTarget.valueAsNumber })}
            />
            <output>{settings[name]}</output>
            <span class="quiet">{hint}</span>
          </label>
        );
      })}
      {!arePreferencesKept() && (
        <p class="note">This browser stores no more settings for this page: they count until the page is left.</p>
      )}
      <p class="buttons">
        <button type="button" onClick={() => onChange(DEFAULT_ANSWER_SETTINGS)}>
          Defaults
        </button>
      </p>
    </fieldset>
  );
}
