/**
 * Padding: 0x80, then zeros, up to one of few lengths (Padmé), so that a length says little of the content. There is one
 * way to pad a content; anything else is refused.
 */

import { SealBroken } from './errors.mjs';

const LEAST_BYTES = 512;
const LARGEST_STEP_BYTES = 64 * 1024;
const MARKER = 0x80;

/**
 * How long a content of this length is once it is padded.
 * @param {number} size
 */
export function paddedBytes(size) {
  const least = Math.max(size + 1, LEAST_BYTES);
  const exponent = bits(least) - 1;
  const step = Math.min(2 ** (exponent - bits(exponent)), LARGEST_STEP_BYTES);
  return Math.ceil(least / step) * step;
}

/** @param {Buffer} content */
export function pad(content) {
  const padded = Buffer.alloc(paddedBytes(content.length));
  content.copy(padded);
  padded[content.length] = MARKER;
  return padded;
}

/** @param {Buffer} padded */
export function strip(padded) {
  const end = padded.lastIndexOf(MARKER);
  if (end < 0 || paddedBytes(end) !== padded.length || padded.subarray(end + 1).some((byte) => byte !== 0)) {
    throw new SealBroken();
  }
  return padded.subarray(0, end);
}

/**
 * The length of a number in binary.
 * @param {number} value
 */
function bits(value) {
  return 32 - Math.clz32(value);
}
