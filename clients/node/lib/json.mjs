/**
 * JSON whose meaning cannot be in doubt: no member twice, no number but integers. `JSON.parse` lets the last one
 * win.
 */

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/**
 * @param {string | Uint8Array} raw UTF-8
 * @returns {any}
 */
export function parseJson(raw) {
  const text = typeof raw === 'string' ? raw : new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(raw);
  const value = JSON.parse(text);
  /** @type {Set<string>[]} names seen in each object that is open; an array has an empty one */
  const open = [];
  let previous = '';
  for (const [token] of text.matchAll(TOKEN)) {
    if (token === '{' || token === '[') open.push(new Set());
    else if (token === '}' || token === ']') open.pop();
    else if (token === ':') once(open[open.length - 1], JSON.parse(previous));
    else if (/^-?\d/.test(token) && /[.eE]/.test(token)) throw new Error('a number that is not an integer');
    previous = token;
  }
  return value;
}

/** @param {Set<string>} seen @param {string} name */
function once(seen, name) {
  if (seen.has(name)) throw new Error('a member is given twice');
  seen.add(name);
}

/**
 * @param {unknown} value
 * @param {Iterable<string>} [members] exactly these; any where left out
 * @returns {Record<string, any>}
 */
export function exactObject(value, members) {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error('not an object');
  const names = Object.keys(value);
  if (members !== undefined) {
    const wanted = new Set(members);
    if (names.length !== wanted.size || names.some((name) => !wanted.has(name))) {
      throw new Error('not exactly the members there must be');
    }
  }
  return /** @type {Record<string, any>} */ (value);
}

/** @param {unknown} value @returns {any[]} */
export function array(value) {
  if (!Array.isArray(value)) throw new Error('not an array');
  return value;
}

/** Printable, 1 to 2048 characters. @param {unknown} value @returns {string} */
export function text(value) {
  if (typeof value !== 'string' || !/^(?: |[^\p{C}\p{Z}])+$/u.test(value) || [...value].length > 2048) {
    throw new Error('not a text');
  }
  return value;
}

/** 64 lower-case hex digits. @param {unknown} value @returns {string} */
export function hex32(value) {
  if (typeof value !== 'string' || !/^[0-9a-f]{64}$/.test(value)) throw new Error('not 64 hex digits');
  return value;
}

/** @param {unknown} value @param {number} least @param {number} most @returns {number} */
export function integer(value, least, most) {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < least || value > most) {
    throw new Error('not a number in its range');
  }
  return value;
}

/** @param {unknown} value @returns {boolean} */
export function flag(value) {
  if (typeof value !== 'boolean') throw new Error('neither true nor false');
  return value;
}
