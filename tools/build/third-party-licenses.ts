/**
 * Writes the licences of the packages that are bundled into dist/ beside them. Owns the file; fails the build for a package
 * without a licence of its name.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Plugin } from 'vite';

const licenseFile = /^(licen[cs]e|notice)(\.(md|txt))?$/i;

export function thirdPartyLicenses(): Plugin {
  return {
    name: 'webmoe-third-party-licenses',
    generateBundle() {
      const folders = new Set([...this.getModuleIds()].flatMap((id) => getPackageFolder(id) ?? []));
      this.emitFile({
        type: 'asset',
        fileName: 'third-party-licenses.txt',
        source: [...folders].sort().map(describePackage).join('\n'),
      });
    },
  };
}

/** Of the innermost package that a module belongs to. */
function getPackageFolder(id: string): string | undefined {
  return /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(id.replaceAll('\\', '/').replace(/^\0/, ''))?.[0];
}

function describePackage(folder: string): string {
  const manifest = readFileSync(join(folder, 'package.json'), 'utf8');
  const { name, version, license, homepage = '' } = JSON.parse(manifest) as Record<string, string>;
  if (!license) throw new Error(`${name} names no licence in its package.json`);
  const files = existsSync(folder) ? readdirSync(folder).filter((file) => licenseFile.test(file)) : [];
  const texts = files.map((file) => readFileSync(join(folder, file), 'utf8').trim());
  return [`${name} ${version}`, `Licence: ${license} ${homepage}`.trim(), '', ...texts, '-'.repeat(78), ''].join('\n');
}
