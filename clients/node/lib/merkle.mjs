/** Merkle trees over SHA-256 (RFC 6962, section 2.1). Functions take leaf hashes. */

import { sha256 } from './bytes.mjs';
import { SealBroken } from './errors.mjs';

/** @param {Uint8Array} entry */
export function leafHash(entry) {
  return sha256(Buffer.of(0), entry);
}

/**
 * @param {Uint8Array} left
 * @param {Uint8Array} right
 */
function nodeHash(left, right) {
  return sha256(Buffer.of(1), left, right);
}

/**
 * Leaf hashes first, the root last; a node without a sibling moves up as it is.
 * @param {Buffer[]} leaves one or more
 */
export async function levelsOf(leaves) {
  const levels = [leaves];
  for (let below = leaves; below.length > 1; below = levels[levels.length - 1]) {
    const above = [];
    for (let at = 0; at < below.length; at += 2) {
      above.push(at + 1 < below.length ? await nodeHash(below[at], below[at + 1]) : below[at]);
    }
    levels.push(above);
  }
  return levels;
}

/**
 * The sibling hashes from a leaf up to the root.
 * @param {Buffer[][]} levels
 * @param {number} index
 */
export function pathOf(levels, index) {
  const siblings = levels.slice(0, -1).map((level, height) => level[(index >> height) ^ 1]);
  return siblings.filter((sibling) => sibling !== undefined);
}

/**
 * The tree head that an audit path leads to (RFC 9162, section 2.1.3.2).
 * @param {Buffer} leaf
 * @param {number} index
 * @param {number} size
 * @param {Buffer[]} path
 */
export async function rootOfPath(leaf, index, size, path) {
  if (index >= size || path.some((sibling) => sibling.length !== 32)) throw new SealBroken();
  let node = leaf;
  let last = size - 1;
  for (const sibling of path) {
    if (last === 0) throw new SealBroken();
    if (index % 2 === 1 || index === last) {
      node = await nodeHash(sibling, node);
      while (index % 2 === 0 && index > 0) [index, last] = [index >> 1, last >> 1];
    } else {
      node = await nodeHash(node, sibling);
    }
    [index, last] = [index >> 1, last >> 1];
  }
  if (last !== 0) throw new SealBroken();
  return node;
}
