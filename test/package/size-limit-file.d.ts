/** The package comes without types. size-limit declares its plugins as functions, though they are lists of steps. */
declare module '@size-limit/file' {
  const plugin: (...args: unknown[]) => unknown;
  // biome-ignore lint/style/noDefaultExport: it is the package's.
  export default plugin;
}
