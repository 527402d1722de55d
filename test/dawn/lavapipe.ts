/**
 * WebGPU with shader-f16 in Node: Dawn's bindings (npm `webgpu`) over the Vulkan driver that the environment names, or over
 * Mesa's lavapipe where it is installed. Owns the search; never fails: what is missing is said, and tests are skipped.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Where Vulkan's loader looks for drivers on Linux. */
const DRIVER_FOLDERS = ['/usr/share/vulkan/icd.d', '/usr/local/share/vulkan/icd.d', '/etc/vulkan/icd.d'];

const REMEDY =
  'install Mesa 24 or later (mesa-vulkan-drivers), or name a Vulkan driver with f16 in VK_DRIVER_FILES, to run these tests';

function findLavapipe(): string | undefined {
  return DRIVER_FOLDERS.filter(existsSync)
    .flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)))
    .find((path) => /\/lvp_icd\..*json$/.test(path));
}

/** Gives `navigator.gpu` an adapter with f16 and returns null, or why there is none. */
export async function installDawn(): Promise<string | null> {
  const { env } = process;
  if (!env.VK_DRIVER_FILES && !env.VK_ICD_FILENAMES) {
    const driver = findLavapipe();
    if (!driver) return `no lavapipe on this machine: ${REMEDY}`;
    env.VK_DRIVER_FILES = driver;
  }
  let dawn: typeof import('webgpu');
  try {
    dawn = await import('webgpu');
  } catch (error) {
    return `Dawn's bindings do not load (${(error as Error).message}): ${REMEDY}`;
  }
  Object.assign(globalThis, dawn.globals);
  // Without this toggle Dawn hides what software adapters have of subgroups.
  const gpu = dawn.create(['enable-dawn-features=allow_unsafe_apis']);
  const adapter = await gpu.requestAdapter();
  if (!adapter) return `Dawn finds no adapter over ${env.VK_DRIVER_FILES ?? env.VK_ICD_FILENAMES}: ${REMEDY}`;
  const { description } = adapter.info;
  if (!adapter.features.has('shader-f16')) return `${description} has no shader-f16: ${REMEDY}`;
  Object.defineProperty(globalThis, 'navigator', { value: { gpu }, configurable: true });
  return null;
}

/** Why kernels with subgroup matrices cannot run on the adapter that `installDawn` gave, or null. */
export async function explainNoMatrices(): Promise<string | null> {
  const adapter = await navigator.gpu.requestAdapter();
  if (adapter?.features.has('chromium-experimental-subgroup-matrix' as GPUFeatureName)) return null;
  return (
    `${adapter?.info.description} has no subgroup matrices: install Mesa 26.2 or later (seen in 26.2.6's lavapipe, not in 25.0.7's), ` +
    'or name a Vulkan driver with VK_KHR_cooperative_matrix in VK_DRIVER_FILES, to run these tests'
  );
}
