/**
 * How a model writes that it wants a tool called: told by the marks that its chat template writes. Pure.
 */

/**
 * hermes: `<tool_call>{"name": …, "arguments": …}</tool_call>` (Hermes, Qwen). mistral: `[TOOL_CALLS][{…}]`. harmony: a
 * message `to=functions.NAME` in the commentary channel (gpt-oss). json: the bare object, `arguments` or `parameters`.
 */
export type ToolFamily = 'hermes' | 'mistral' | 'harmony' | 'json';

const MARKS: readonly (readonly [mark: string, family: ToolFamily])[] = [
  ['<tool_call>', 'hermes'],
  ['[TOOL_CALLS]', 'mistral'],
  ['<|channel|>', 'harmony'],
];

export function getToolFamily(chatTemplate: string | null): ToolFamily {
  return MARKS.find(([mark]) => chatTemplate?.includes(mark))?.[1] ?? 'json';
}

/** Whether the template lists tools that it is given. */
export function listsTools(chatTemplate: string | null): boolean {
  return chatTemplate !== null && /\btools\b/.test(chatTemplate);
}
