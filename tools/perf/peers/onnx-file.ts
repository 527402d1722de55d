/**
 * ONNX files: the few messages of onnx.proto that a model of named operators and constants is made of, encoded by
 * protobufjs. Owns field numbers; knows no operator.
 */
import protobuf from 'protobufjs';

/** `TensorProto.DataType`. */
export const OnnxType = { float: 1, uint8: 2, int32: 6, int64: 7 } as const;
export type OnnxTypeName = keyof typeof OnnxType;

export interface OnnxNode {
  readonly opType: string;
  /** Default: ONNX's own. */
  readonly domain?: 'com.microsoft';
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes?: Readonly<Record<string, OnnxAttribute>>;
}

/** A number is an integer; floats say so. */
export type OnnxAttribute = number | string | { readonly float: number };

export interface OnnxConstant {
  readonly name: string;
  readonly type: OnnxTypeName;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** A name for a dimension: known when the model runs. */
export interface OnnxValue {
  readonly name: string;
  readonly type: OnnxTypeName;
  readonly shape: readonly (number | string)[];
}

export interface OnnxGraph {
  readonly nodes: readonly OnnxNode[];
  readonly constants: readonly OnnxConstant[];
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
}

const IR_VERSION = 10;
const OPSETS = [
  { domain: '', version: 21 },
  { domain: 'com.microsoft', version: 1 },
];
/** `AttributeProto.AttributeType`. */
const AttributeType = { float: 1, int: 2, string: 3 } as const;

const { root } = protobuf.parse(
  `
  syntax = "proto3";
  message Model { int64 ir_version = 1; string producer_name = 2; Graph graph = 7; repeated Opset opset_import = 8; }
  message Opset { string domain = 1; int64 version = 2; }
  message Graph {
    repeated Node node = 1; string name = 2; repeated Tensor initializer = 5; repeated Value input = 11; repeated Value output = 12;
  }
  message Node {
    repeated string input = 1; repeated string output = 2; string name = 3; string op_type = 4; repeated Attribute attribute = 5;
    string domain = 7;
  }
  message Attribute { string name = 1; float f = 2; int64 i = 3; bytes s = 4; int32 type = 20; }
  message Tensor { repeated int64 dims = 1; int32 data_type = 2; string name = 8; bytes raw_data = 9; }
  message Value { string name = 1; Type type = 2; }
  message Type { TensorType tensor_type = 1; }
  message TensorType { int32 elem_type = 1; Shape shape = 2; }
  message Shape { repeated Dimension dim = 1; }
  message Dimension { oneof value { int64 dim_value = 1; string dim_param = 2; } }
`,
  { keepCase: true },
);
const Model = root.lookupType('Model');

export function encodeOnnx({ nodes, constants, inputs, outputs }: OnnxGraph): Uint8Array {
  return Model.encode({
    ir_version: IR_VERSION,
    producer_name: 'webmoe',
    opset_import: OPSETS,
    graph: {
      name: 'model',
      node: nodes.map(({ opType, domain, inputs, outputs, attributes }) => ({
        op_type: opType,
        name: outputs[0],
        domain: domain ?? '',
        input: inputs,
        output: outputs,
        attribute: Object.entries(attributes ?? {}).map(([name, value]) => ({ name, ...encodeAttribute(value) })),
      })),
      initializer: constants.map(({ name, type, shape, data }) => ({
        name,
        data_type: OnnxType[type],
        dims: shape,
        raw_data: data,
      })),
      input: inputs.map(encodeValue),
      output: outputs.map(encodeValue),
    },
  }).finish();
}

function encodeAttribute(value: OnnxAttribute): object {
  if (typeof value === 'number') return { type: AttributeType.int, i: value };
  if (typeof value === 'string') return { type: AttributeType.string, s: new TextEncoder().encode(value) };
  return { type: AttributeType.float, f: value.float };
}

function encodeValue({ name, type, shape }: OnnxValue): object {
  const dim = shape.map((length) => (typeof length === 'number' ? { dim_value: length } : { dim_param: length }));
  return { name, type: { tensor_type: { elem_type: OnnxType[type], shape: { dim } } } };
}
