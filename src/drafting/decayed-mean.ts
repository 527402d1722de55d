/** A mean in which newer samples count more: what choices that touch speed alone are made by. Pure. */
export class DecayedMean {
  #weight = 0;
  #sum = 0;
  /** Samples ever noted. */
  samples = 0;

  /** @param keep what a sample counts after each new one. */
  constructor(private readonly keep: number) {}

  /** @param sum of `samples` samples. */
  note(sum: number, samples = 1): void {
    this.samples += samples;
    const keep = this.keep ** samples;
    this.#weight = this.#weight * keep + samples;
    this.#sum = this.#sum * keep + sum;
  }

  /** Makes room for what is measured next: what there is counts so much less; 0: nothing. */
  age(share: number): void {
    this.#weight *= share;
    this.#sum *= share;
  }

  /** 0 before the first sample. */
  get value(): number {
    return this.#weight === 0 ? 0 : this.#sum / this.#weight;
  }
}
