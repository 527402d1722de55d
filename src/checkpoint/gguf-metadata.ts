/**
 * Typed access to a checkpoint's metadata, in GGUF's manner: every value is checked where it is asked for.
 * Owns no key names; never guesses a value that the caller gave no default for.
 */
import { EngineError } from '../errors';

export type MetadataScalar = string | number | bigint | boolean;
export type MetadataValue = MetadataScalar | readonly MetadataScalar[];

export interface NumberRange {
  /** Inclusive. */
  readonly min?: number;
  /** Inclusive. */
  readonly max?: number;
  /** Returned when the key is absent; without it absence is an error. */
  readonly default?: number;
}

export class GgufMetadata {
  constructor(
    readonly sourceName: string,
    readonly values: ReadonlyMap<string, MetadataValue>,
  ) {}

  has(key: string): boolean {
    return this.values.has(key);
  }

  /**
   * A finite number within a range; 64-bit values must be exact as a number.
   * @throws EngineError `BAD_FILE`
   */
  getNumber(key: string, range: NumberRange = {}): number {
    const value = this.values.get(key);
    if (value === undefined && range.default !== undefined) return range.default;
    return this.checkNumber(key, this.require(key, value), range);
  }

  /** As `getNumber`, and whole. */
  getInteger(key: string, range: NumberRange = {}): number {
    const value = this.getNumber(key, range);
    if (!Number.isSafeInteger(value)) this.fail(`"${key}" is ${value}; a whole number is needed`);
    return value;
  }

  /** @throws EngineError `BAD_FILE` when the key is absent and there is no default, or when it is no string. */
  getString(key: string, fallback?: string): string {
    const value = this.values.get(key);
    if (value === undefined && fallback !== undefined) return fallback;
    const present = this.require(key, value);
    if (typeof present !== 'string') this.fail(`"${key}" is ${getKind(present)}; a string is needed`);
    return present;
  }

  /** @throws EngineError `BAD_FILE` */
  getBool(key: string, fallback?: boolean): boolean {
    const value = this.values.get(key);
    if (value === undefined && fallback !== undefined) return fallback;
    const present = this.require(key, value);
    if (typeof present !== 'boolean') this.fail(`"${key}" is ${getKind(present)}; a boolean is needed`);
    return present;
  }

  /** @throws EngineError `BAD_FILE` */
  getArray(key: string): readonly MetadataScalar[] {
    const value = this.require(key, this.values.get(key));
    if (!Array.isArray(value)) this.fail(`"${key}" is ${getKind(value)}; an array is needed`);
    return value as readonly MetadataScalar[];
  }

  getStrings(key: string): readonly string[] {
    const values = this.getArray(key);
    const odd = values.find((value) => typeof value !== 'string');
    if (odd !== undefined) this.fail(`"${key}" holds ${getKind(odd)}; strings are needed`);
    return values as readonly string[];
  }

  getNumbers(key: string, range: NumberRange = {}): readonly number[] {
    return this.getArray(key).map((value) => this.checkNumber(key, value, range));
  }

  private require(key: string, value: MetadataValue | undefined): MetadataValue {
    return value ?? this.fail(`metadata key "${key}" is missing`);
  }

  private checkNumber(key: string, value: MetadataValue, { min, max }: NumberRange): number {
    if (typeof value !== 'number' && typeof value !== 'bigint') {
      this.fail(`"${key}" is ${getKind(value)}; a number is needed`);
    }
    const number = Number(value);
    if (typeof value === 'bigint' && !Number.isSafeInteger(number)) {
      this.fail(`"${key}" is ${value}; the limit is ${Number.MAX_SAFE_INTEGER}`);
    }
    const low = min ?? -Number.MAX_VALUE;
    const high = max ?? Number.MAX_VALUE;
    if (!(number >= low && number <= high)) {
      this.fail(`"${key}" is ${number}; ${min ?? 'any'} to ${max ?? 'any'} is possible`);
    }
    return number;
  }

  private fail(message: string): never {
    throw new EngineError('BAD_FILE', `${this.sourceName}: ${message}`);
  }
}

function getKind(value: MetadataValue): string {
  return Array.isArray(value) ? `an array of ${value.length}` : `a ${typeof value}`;
}
