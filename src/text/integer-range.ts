/** The decimal numbers from one to another, as an expression of the grammar engine's EBNF. Pure. */

/** Whole numbers from `first` to `last`, both included; the expression stands in brackets. */
export function getIntegerRange(first: number, last: number): string {
  const choices: string[] = [];
  if (first < 0) choices.push(...getPositive(Math.max(1, -last), -first).map((digits) => `"-" ${digits}`));
  if (first <= 0 && last >= 0) choices.push('"0"');
  if (last > 0) choices.push(...getPositive(Math.max(1, first), last));
  return `(${choices.join(' | ')})`;
}

/** By number of digits: 5 to 1234 is 5 to 9, 10 to 99, 100 to 999, 1000 to 1234. */
function getPositive(first: number, last: number): string[] {
  const choices: string[] = [];
  for (let from = first; from <= last; ) {
    const to = Math.min(last, 10 ** String(from).length - 1);
    choices.push(...getSameLength(String(from), String(to)));
    from = to + 1;
  }
  return choices;
}

/** 213 to 487 is 213 to 299, 300 to 399, 400 to 487: where all of a digit's rest is free, the digits are one class. */
function getSameLength(first: string, last: string): string[] {
  const [low, high] = [first.charAt(0), last.charAt(0)];
  const rest = first.length - 1;
  const any = rest === 0 ? '' : ` [0-9]{${rest}}`;
  if (first.slice(1) === '0'.repeat(rest) && last.slice(1) === '9'.repeat(rest)) return [`[${low}-${high}]${any}`];
  if (low === high) return getSameLength(first.slice(1), last.slice(1)).map((digits) => `"${low}" ${digits}`);
  const choices = getSameLength(first.slice(1), '9'.repeat(rest)).map((digits) => `"${low}" ${digits}`);
  if (Number(high) - Number(low) > 1) choices.push(`[${Number(low) + 1}-${Number(high) - 1}]${any}`);
  return [...choices, ...getSameLength('0'.repeat(rest), last.slice(1)).map((digits) => `"${high}" ${digits}`)];
}
