/**
 * The noise of shaders/sample_token.wgsl on the CPU: standard Gumbel, a pure function of seed, position and token id. The hash
 * is the kernel's bit for bit; the logarithms are double precision, so two nearly equal scores may order otherwise there.
 */

/** @param position of the token to sample in its sequence. */
export function getGumbelNoise(seed: number, position: number, id: number): number {
  const [x] = hashPcg3d(seed, position, id);
  const uniform = Math.min(Math.fround(Math.fround(x) + 0.5) * 2 ** -32, 1 - 2 ** -24);
  return -Math.log(-Math.log1p(-uniform));
}

/** Jarzynski & Olano, Hash Functions for GPU Rendering, JCGT 9(3), 2020: pcg3d. */
export function hashPcg3d(a: number, b: number, c: number): [number, number, number] {
  let [x, y, z] = [a, b, c].map((word) => (Math.imul(word, 1664525) + 1013904223) >>> 0) as [number, number, number];
  const mix = () => {
    x = (x + Math.imul(y, z)) >>> 0;
    y = (y + Math.imul(z, x)) >>> 0;
    z = (z + Math.imul(x, y)) >>> 0;
  };
  mix();
  x ^= x >>> 16;
  y ^= y >>> 16;
  z ^= z >>> 16;
  mix();
  return [x, y, z];
}
