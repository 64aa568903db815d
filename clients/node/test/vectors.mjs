/** The vectors that every implementation is held to: tests/vectors of this repository. */

import { readFileSync } from 'node:fs';

/** @param {string} name @returns {any} */
export function vectors(name) {
  return JSON.parse(readFileSync(new URL(`../../../tests/vectors/${name}.json`, import.meta.url), 'utf8'));
}

/** @param {string} text */
export function hex(text) {
  return Buffer.from(text, 'hex');
}

/** Why something is refused; null where it is not. @param {Promise<unknown>} attempt */
export async function reasonOf(attempt) {
  try {
    await attempt;
    return null;
  } catch (error) {
    const { reason } = /** @type {any} */ (error);
    if (reason === undefined) throw error; // not refused on purpose
    return reason;
  }
}
