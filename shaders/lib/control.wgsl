// Words of the control buffer, by which a pass tells later kernels and the CPU how far it came.
// FAULT_LAYER: first MoE layer with a missing page, or NO_FAULT. Written by router_topk, tested by every kernel after it.
const FAULT_LAYER = 0u;
// LAYERS_EXECUTED: layers completed since the CPU cleared it.
const LAYERS_EXECUTED = 1u;
// NEXT_TOKEN + r: the token id sampled from row r.
const NEXT_TOKEN = 2u;
const NO_FAULT = 0xffffffffu;

// What changes from pass to pass.
struct Step {
  rows: u32, // tokens in this pass
  position: u32, // of row 0 in its sequence
}

// Page-table entry of an expert without a slot.
const ABSENT = 0xffffffffu;
