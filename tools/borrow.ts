/** An object in place of another, some of its members one's own: to watch or to share what a browser gives. */

/** `real` with some members of one's own; members can be replaced as on `real` itself. */
export function borrow<T extends object>(real: T, own: Partial<T>): T {
  return new Proxy(Object.assign(Object.create(null), own) as T, {
    get(target, name) {
      if (name in target) return Reflect.get(target, name);
      const value = Reflect.get(real, name);
      return typeof value === 'function' ? value.bind(real) : value;
    },
  });
}
