/**
 * The outer form of a sealed message: length-delimited fields in ascending order, of which the ciphertext is the last.
 * All that precedes the ciphertext's own bytes is associated data, so no bit of the message is outside the seal.
 */

import { SealBroken } from './errors.mjs';

const LENGTH_DELIMITED = 2;
const MAX_VARINT_BYTES = 5;
const MAX_FIELDS = 32;
const MAX_HEAD_BYTES = 64 * 1024;

/**
 * Serialised fields, and the tag and length with which a ciphertext of this length begins.
 * @param {Uint8Array} fields
 * @param {number} ciphertextField
 * @param {number} ciphertextLength
 */
export function head(fields, ciphertextField, ciphertextLength) {
  return Buffer.concat([fields, Buffer.of((ciphertextField << 3) | LENGTH_DELIMITED), varint(ciphertextLength)]);
}

/**
 * Take a sealed message apart.
 * @param {Buffer} raw
 * @param {number} ciphertextField
 * @returns {{fields: Buffer, head: Buffer, ciphertext: Buffer}} the fields before the ciphertext; the same with its tag
 *   and length; and the ciphertext
 */
export function split(raw, ciphertextField) {
  let position = 0;
  let previous = 1;
  for (let count = 0; count < MAX_FIELDS; count += 1) {
    const begin = position;
    const [tag, afterTag] = readVarint(raw, position);
    const [length, start] = readVarint(raw, afterTag);
    const field = Math.floor(tag / 8);
    if (tag % 8 !== LENGTH_DELIMITED || field < previous || field > ciphertextField || start > MAX_HEAD_BYTES) break;
    if (field === ciphertextField && start + length === raw.length) {
      return { fields: raw.subarray(0, begin), head: raw.subarray(0, start), ciphertext: raw.subarray(start) };
    }
    position = start + length;
    previous = field;
  }
  throw new SealBroken();
}

/** @param {number} value */
function varint(value) {
  const out = [];
  for (; value > 0x7f; value = Math.floor(value / 128)) out.push((value % 128) | 0x80);
  return Buffer.from([...out, value]);
}

/** @param {Buffer} raw @param {number} position @returns {[number, number]} the value, and where it ends */
function readVarint(raw, position) {
  let value = 0;
  for (let count = 0; count < MAX_VARINT_BYTES && position + count < raw.length; count += 1) {
    const byte = raw[position + count];
    value += (byte & 0x7f) * 128 ** count; // beyond 32 bits, where shifting ends
    if (byte < 0x80) return [value, position + count + 1];
  }
  throw new SealBroken();
}
