/**
 * What a predictor learnt as a file, so that it can come with a model: the safetensors container (eight bytes of header
 * length, a JSON header, then the arrays), one tensor per array, members of an ensemble as `member/array`.
 * Pure: bytes in, plain data out. Whether the state fits a model is its predictor's to say.
 */
import { EngineError } from '../errors';
import { createState, type PredictorState, type SavedArray } from './predictor';

const types = { F32: Float32Array, U8: Uint8Array, U16: Uint16Array, U32: Uint32Array } as const;
type TypeName = keyof typeof types;

interface TensorEntry {
  readonly dtype: TypeName;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

export function formatStateFile(state: PredictorState): Uint8Array<ArrayBuffer> {
  const header: Record<string, TensorEntry | Record<string, string>> = {
    __metadata__: {
      predictor: state.predictor,
      version: String(state.version),
      layers: String(state.layers),
      experts: String(state.experts),
      members: Object.keys(state.members ?? {}).join(),
    },
  };
  const arrays = [
    ...Object.entries(state.arrays),
    ...Object.entries(state.members ?? {}).flatMap(([member, { arrays: own }]) =>
      Object.entries(own).map(([name, array]) => [`${member}/${name}`, array] as const),
    ),
  ];
  let offset = 0;
  for (const [name, array] of arrays) {
    const [dtype] = Object.entries(types).find(([, type]) => array instanceof type) as [TypeName, unknown];
    header[name] = { dtype, shape: [array.length], data_offsets: [offset, offset + array.byteLength] };
    offset += array.byteLength;
  }
  const head = new TextEncoder().encode(JSON.stringify(header));
  const file = new Uint8Array(8 + head.length + offset);
  new DataView(file.buffer).setBigUint64(0, BigInt(head.length), true);
  file.set(head, 8);
  let at = 8 + head.length;
  for (const [, array] of arrays) {
    file.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), at);
    at += array.byteLength;
  }
  return file;
}

/** @throws EngineError `BAD_FILE` */
export function parseStateFile(file: Uint8Array, name: string): PredictorState {
  const fail = (problem: string, cause?: unknown) =>
    new EngineError('BAD_FILE', `${name}: ${problem}; give a file that npm run teach wrote`, { cause });
  if (file.byteLength < 8) throw fail(`${file.byteLength} bytes are fewer than a header takes`);
  const headBytes = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  if (headBytes > file.byteLength - 8) throw fail(`a header of ${headBytes} bytes does not fit ${file.byteLength}`);
  let header: Record<string, TensorEntry> & { __metadata__?: Record<string, string> };
  try {
    header = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + headBytes)));
  } catch (cause) {
    throw fail('its header is not JSON', cause);
  }
  const { __metadata__: metadata, ...entries } = header;
  if (metadata?.predictor === undefined) throw fail('its header names no predictor');
  const data = file.subarray(8 + headBytes);
  const read = (prefix: string): Record<string, SavedArray> =>
    Object.fromEntries(
      Object.entries(entries).flatMap(([tensor, { dtype, data_offsets: offsets }]) => {
        if (!tensor.startsWith(prefix) || tensor.slice(prefix.length).includes('/')) return [];
        const [start, end] = offsets ?? [];
        const type = types[dtype];
        const isInside = Number.isInteger(start) && Number.isInteger(end) && start >= 0 && end >= start;
        if (!type || !isInside || end > data.byteLength || (end - start) % type.BYTES_PER_ELEMENT !== 0) {
          throw fail(`its tensor "${tensor}" is ${dtype} at ${start} to ${end} of ${data.byteLength} bytes`);
        }
        // A copy: tensors need not be aligned in the file.
        return [[tensor.slice(prefix.length), new type(new Uint8Array(data.subarray(start, end)).buffer)]];
      }),
    );
  const shape = { layers: Number(metadata.layers), experts: Number(metadata.experts), expertsPerToken: 0 };
  const create = (predictor: string, prefix: string): PredictorState => ({
    ...createState(predictor, shape, read(prefix)),
    version: Number(metadata.version) as PredictorState['version'],
  });
  const members = (metadata.members ?? '').split(',').filter((member) => member !== '');
  const state = create(metadata.predictor, '');
  if (members.length === 0) return state;
  return { ...state, members: Object.fromEntries(members.map((member) => [member, create(member, `${member}/`)])) };
}
