/** CPU reference of shaders/route_order.wgsl: which choices each expert has. */

/** ids: experts of the choices of one layer, or none. Returns each expert's choices, ascending. */
export function routeOrder(ids: readonly number[], experts: number): number[][] {
  const groups = Array.from({ length: experts }, (): number[] => []);
  ids.forEach((expert, choice) => {
    groups[expert]?.push(choice);
  });
  return groups;
}
