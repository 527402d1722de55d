/**
 * A regular expression as one expression of the EBNF that the grammar engine reads. Pure.
 * The whole text has to match, whatever anchors say: of a pattern that may match anywhere, only texts that match as a whole
 * are made. What is no regular language (look-around, back references) is refused by name.
 */
import { EngineError } from '../errors';

/** Characters that a text may have where a pattern allows any: `json` leaves out what a JSON string must escape. */
export type TextKind = 'plain' | 'json';

type Range = readonly [first: number, last: number];

const LAST_CHARACTER = 0x10ffff;
const LAST_ASCII = 0x7f;
/** Most characters beyond ASCII in one class: each becomes a branch of the grammar. */
const MOST_OTHERS = 256;
const DIGIT: readonly Range[] = [[0x30, 0x39]];
const WORD: readonly Range[] = [...DIGIT, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]];
const SPACE: readonly Range[] = [
  [0x09, 0x0d],
  [0x20, 0x20],
];
const CONTROLS: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13 };
/** Inside a JSON string these are escaped, so no class offers them. */
const JSON_ESCAPED: readonly Range[] = [
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
  [0x7f, 0x7f],
];

/** @throws EngineError `UNSUPPORTED` naming the construct and its place. */
export function getRegexExpression(pattern: string, kind: TextKind): string {
  return new RegexReader(pattern, kind).read();
}

class RegexReader {
  readonly #characters: readonly string[];
  #at = 0;

  constructor(
    private readonly pattern: string,
    private readonly kind: TextKind,
  ) {
    this.#characters = [...pattern];
  }

  read(): string {
    if (this.#peek() === '^') this.#at++;
    const expression = this.#readChoice();
    if (this.#peek() !== undefined) this.#refuse(`"${this.#peek()}"`);
    return expression;
  }

  #peek(ahead = 0): string | undefined {
    return this.#characters[this.#at + ahead];
  }

  #take(): string {
    const character = this.#characters[this.#at++];
    if (character === undefined) this.#refuse('the end of the pattern');
    return character;
  }

  #refuse(what: string): never {
    throw new EngineError(
      'UNSUPPORTED',
      `pattern ${JSON.stringify(this.pattern)} has ${what} at ${this.#at}, which a grammar cannot enforce: ` +
        'use literals, classes, groups, | and the quantifiers ? * + {m,n}, anchored as a whole',
    );
  }

  #readChoice(): string {
    const branches = [this.#readSequence()];
    while (this.#peek() === '|') {
      this.#at++;
      branches.push(this.#readSequence());
    }
    return branches.length === 1 ? (branches[0] as string) : `(${branches.join(' | ')})`;
  }

  #readSequence(): string {
    const parts: string[] = [];
    for (let next = this.#peek(); next !== undefined && next !== '|' && next !== ')'; next = this.#peek()) {
      if (next === '$' && this.#at === this.#characters.length - 1) {
        this.#at++;
        break;
      }
      parts.push(this.#readAtom() + this.#readQuantifier());
    }
    return parts.length === 0 ? '""' : parts.join(' ');
  }

  #readQuantifier(): string {
    const next = this.#peek();
    let quantifier = '';
    if (next === '?' || next === '*' || next === '+') {
      this.#at++;
      quantifier = next;
    } else if (next === '{') {
      const counts = /^\{(\d+)(,(\d*))?\}/.exec(this.#characters.slice(this.#at).join(''));
      if (!counts) this.#refuse('"{"');
      this.#at += counts[0].length;
      quantifier = counts[0];
    }
    // Lazy or greedy: the same texts match.
    if (quantifier !== '' && this.#peek() === '?') this.#at++;
    return quantifier;
  }

  #readAtom(): string {
    const next = this.#take();
    switch (next) {
      case '(': {
        if (this.#peek() === '?') {
          if (this.#peek(1) !== ':') this.#refuse(`"(?${this.#peek(1) ?? ''}"`);
          this.#at += 2;
        }
        const group = this.#readChoice();
        if (this.#take() !== ')') this.#refuse('a group without end');
        return `(${group})`;
      }
      case '[':
        return this.#readClass();
      case '.':
        return this.#writeClass(
          invert([
            [0x0a, 0x0a],
            [0x0d, 0x0d],
          ]),
        );
      case '\\':
        return this.#readEscape();
      case '^':
      case '$':
      case '*':
      case '+':
      case '?':
      case '{':
        return this.#refuse(`"${next}"`);
      default:
        return this.#writeLiteral(next.codePointAt(0) as number);
    }
  }

  #readEscape(): string {
    const ranges = this.#takeEscape();
    const [first] = ranges;
    return ranges.length === 1 && first && first[0] === first[1]
      ? this.#writeLiteral(first[0])
      : this.#writeClass(ranges);
  }

  /** What stands behind a backslash, as ranges. */
  #takeEscape(): readonly Range[] {
    const escaped = this.#take();
    const classes: Readonly<Record<string, readonly Range[]>> = { d: DIGIT, w: WORD, s: SPACE };
    const known = classes[escaped.toLowerCase()];
    if (known) return escaped === escaped.toLowerCase() ? known : invert(known);
    const control = CONTROLS[escaped];
    if (control !== undefined) return [[control, control]];
    if (escaped === 'x' || escaped === 'u') {
      const digits = this.#characters.slice(this.#at, this.#at + (escaped === 'x' ? 2 : 4)).join('');
      if (!/^([0-9a-fA-F]{2}){1,2}$/.test(digits)) this.#refuse(`"\\${escaped}"`);
      this.#at += digits.length;
      const code = Number.parseInt(digits, 16);
      return [[code, code]];
    }
    if (/[a-zA-Z0-9]/.test(escaped)) this.#refuse(`"\\${escaped}"`);
    const code = escaped.codePointAt(0) as number;
    return [[code, code]];
  }

  #readClass(): string {
    const isNegated = this.#peek() === '^';
    if (isNegated) this.#at++;
    const ranges: Range[] = [];
    while (this.#peek() !== ']') {
      const first = this.#takeMember();
      if (first.length === 1 && this.#peek() === '-' && this.#peek(1) !== ']') {
        this.#at++;
        const last = this.#takeMember();
        const [low, high] = [first[0]?.[0] ?? 0, last[0]?.[1] ?? 0];
        if (last.length !== 1 || low > high) this.#refuse('a range that is none');
        ranges.push([low, high]);
      } else ranges.push(...first);
    }
    this.#at++;
    return this.#writeClass(isNegated ? invert(ranges) : ranges);
  }

  #takeMember(): readonly Range[] {
    const next = this.#take();
    if (next === '\\') return this.#takeEscape();
    const code = next.codePointAt(0) as number;
    return [[code, code]];
  }

  #writeClass(ranges: readonly Range[]): string {
    const allowed = this.kind === 'json' ? subtract(ranges, JSON_ESCAPED) : ranges;
    if (allowed.length === 0) this.#refuse('a class of which no character can stand unescaped in a JSON string');
    // XGrammar reads ranges beyond ASCII wrongly, but knows what a negated class of ASCII leaves.
    if (allowed.some(([, last]) => last === LAST_CHARACTER)) {
      const forbidden = invert(allowed);
      if (forbidden.length === 0) return '([^a] | "a")';
      if (forbidden.some(([, last]) => last > LAST_ASCII)) this.#refuse('a class without some character beyond ASCII');
      return `[^${writeRanges(forbidden)}]`;
    }
    const others = subtract(allowed, [[0, LAST_ASCII]]);
    if (others.reduce((sum, [first, last]) => sum + last - first + 1, 0) > MOST_OTHERS) {
      this.#refuse(`a class of more than ${MOST_OTHERS} characters beyond ASCII`);
    }
    const ascii = subtract(allowed, others);
    const literals = others.flatMap(([first, last]) =>
      Array.from({ length: last - first + 1 }, (_, i) => quoteLiteral(String.fromCodePoint(first + i))),
    );
    return `(${[...(ascii.length > 0 ? [`[${writeRanges(ascii)}]`] : []), ...literals].join(' | ')})`;
  }

  #writeLiteral(code: number): string {
    const character = String.fromCodePoint(code);
    return quoteLiteral(this.kind === 'json' ? JSON.stringify(character).slice(1, -1) : character);
  }
}

/** Every character that is in none of the ranges. */
function invert(ranges: readonly Range[]): Range[] {
  return subtract([[0, LAST_CHARACTER]], ranges);
}

function subtract(ranges: readonly Range[], taken: readonly Range[]): Range[] {
  return taken.reduce<Range[]>(
    (left, [first, last]) =>
      left.flatMap(([low, high]) =>
        (
          [
            [low, Math.min(high, first - 1)],
            [Math.max(low, last + 1), high],
          ] as const
        ).filter(([from, to]) => from <= to),
      ),
    [...ranges],
  );
}

function writeRanges(ranges: readonly Range[]): string {
  return ranges.map(([low, high]) => (low === high ? writeCode(low) : `${writeCode(low)}-${writeCode(high)}`)).join('');
}

function writeCode(code: number): string {
  return `\\U${code.toString(16).padStart(8, '0')}`;
}

/** A text as an EBNF literal. */
export function quoteLiteral(text: string): string {
  const escaped = [...text].map((character) => {
    const code = character.codePointAt(0) as number;
    if (character === '"' || character === '\\') return `\\${character}`;
    return code < 0x20 || code > 0x7e ? writeCode(code) : character;
  });
  return `"${escaped.join('')}"`;
}
