// Words of the control buffer, by which a pass tells later kernels and the CPU how far it came.
// FAULT_LAYER: first MoE layer with a missing page, or NO_FAULT. Written by router_topk, tested by every kernel after it.
// ENDED where a token before this one, of the same submission, has faulted: everything is dead until the CPU resumes it. Written by
// embed_norm, with which a token begins.
const FAULT_LAYER = 0u;
// LAYERS_EXECUTED: layers completed since the CPU cleared it.
const LAYERS_EXECUTED = 1u;
// RUN_AHEAD: what runs behind a fault, in shadow, for its routes only. 0: nothing. n: n - 1 steps of (experts, absent ones
// left out, and the next layer's attention) from the fault on; and in every layer after that the router alone, on the
// residual stream reached by then.
const RUN_AHEAD = 2u;
// DRAFT: 1 while a token is drafted: a missing page raises no fault, and an absent expert adds nothing. Everything else runs
// as in an exact pass, whose rows write the same places again before anything reads them.
const DRAFT = 3u;
// NEXT_TOKEN + r: the token id sampled from row r.
const NEXT_TOKEN = 4u;
const NO_FAULT = 0xffffffffu;
const ENDED = 0xfffffffeu;

// EXACT: the pass itself. SHADOW: behind a fault; whatever is written then is written again by the exact pass before it is
// read, or lies in the second half of its buffer, where the exact pass never looks. DEAD: return at once.
const EXACT = 0u;
const SHADOW = 1u;
const DEAD = 2u;

// Mode of a layer's attention. `moe_layer` is the next MoE layer at or behind it.
fn get_attention_mode(fault: u32, run_ahead: u32, moe_layer: u32) -> u32 {
  if (fault >= moe_layer) {
    return select(EXACT, DEAD, fault == ENDED);
  }
  return select(DEAD, SHADOW, moe_layer - fault < run_ahead);
}

// Mode of a MoE layer's router, which runs behind a fault wherever anything does.
fn get_router_mode(fault: u32, run_ahead: u32, moe_layer: u32) -> u32 {
  if (fault >= moe_layer) {
    return select(EXACT, DEAD, fault == ENDED);
  }
  return select(DEAD, SHADOW, run_ahead > 0u);
}

// Mode of a MoE layer's experts and of the sum behind them.
fn get_expert_mode(fault: u32, run_ahead: u32, moe_layer: u32) -> u32 {
  if (fault > moe_layer) {
    return select(EXACT, DEAD, fault == ENDED);
  }
  return select(DEAD, SHADOW, moe_layer - fault + 1u < run_ahead);
}

// What changes from pass to pass.
struct Step {
  rows: u32, // tokens in this pass
  position: u32, // of row 0 in its sequence
  logit_rows: u32, // the last rows, which get logits
}

// In the place of an expert where a token has chosen fewer than it may.
const NO_EXPERT = 0xffffffffu;

// Page-table entry of an expert without a slot.
const ABSENT = 0xffffffffu;
// Of one that goes to a slot before its layer is summed, in another wave: no fault, and its output is not this wave's to make.
const PROMISED = 0xfffffffeu;
