/** What a caller forces of the kernels, held against the adapter before anything is downloaded. */
import { type DeviceOptions, getTraits, requireAdapter } from '../gpu/device';
import { chooseTuning } from '../kernels/tuning';
import { chooseVariant, type KernelOptions } from '../kernels/variant';

/** WebGPU's default limit. */
const LEAST_INVOCATIONS = 256;

/** @throws EngineError `NO_WEBGPU`, `UNSUPPORTED`, `BAD_ARGUMENT` */
export async function checkKernels(options: DeviceOptions, kernels: KernelOptions | undefined): Promise<void> {
  const adapter = await requireAdapter(options);
  const variant = chooseVariant(getTraits(adapter, options), kernels);
  const { maxComputeInvocationsPerWorkgroup } = adapter.limits;
  chooseTuning(
    variant,
    kernels?.tuning ?? {},
    options.defaultLimitsOnly ? LEAST_INVOCATIONS : maxComputeInvocationsPerWorkgroup,
  );
}
