/**
 * The error a command ends with: tools/run.mjs prints it as `CODE: message`, the last line on stderr, and exits with 1.
 * Never used inside src/: errors of the engine arrive here with a code of their own.
 */
export class ToolError extends Error {
  override readonly name = 'ToolError';
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
