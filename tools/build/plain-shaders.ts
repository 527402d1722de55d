/** Shaders without their comments: what they explain is read in the repository, and every page would download it. */
import type { Plugin } from 'vite';

const marker = 'export default ';

export function plainShaders(): Plugin {
  return {
    name: 'webmoe-plain-shaders',
    transform(code, id) {
      if (!id.endsWith('.wgsl?raw')) return undefined;
      if (!code.startsWith(marker)) this.error(`${id} is not a text as a module: ${code.slice(0, 40)}`);
      const source: string = JSON.parse(code.slice(marker.length).replace(/;\s*$/, ''));
      // WGSL has no texts in which two slashes could stand for anything else.
      const lines = source.split('\n').map((line) => line.replace(/\s*\/\/.*$/, ''));
      const text = lines.filter((line) => line.trim() !== '').join('\n');
      return { code: `${marker}${JSON.stringify(text)};`, map: null };
    },
  };
}
