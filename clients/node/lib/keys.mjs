/** How every key, nonce and associated data of a session comes about (docs/seal-format.md, "Keys"). */

import { gcmsiv } from '@noble/ciphers/aes.js';

import { context, expand, sha256 } from './bytes.mjs';

export const VERSION = 1; // of a header
export const LATER_VERSION = 2; // of a header that asks for padding, or opens a conversation
export const PADDED = 1;
export const SEAL_VERSION = 2; // what this client speaks
export const MAX_RECIPIENTS = 16;
export const REQUEST_CIPHERTEXT = 3; // field numbers in SealedRequest and SealedResponse
export const RESPONSE_CIPHERTEXT = 2;
export const TAG_BYTES = 16;

/** @param {string} cluster @param {string} instance @param {Uint8Array} sessionId */
export function openingInfo(cluster, instance, sessionId) {
  return context('cloister session v1', cluster, instance, sessionId);
}

/** @param {Uint8Array} secret @param {Uint8Array} sessionId */
export function wrappingKey(secret, sessionId) {
  return expand(secret, Buffer.concat([Buffer.from('cloister wrap v1'), sessionId]));
}

/** @param {number} sequence */
export function wrappingNonce(sequence) {
  const nonce = Buffer.alloc(12);
  nonce.writeBigUInt64BE(BigInt(sequence), 4);
  return nonce;
}

/** @param {Uint8Array} header @param {string} instance @param {Uint8Array} sessionId */
export async function wrappingAad(header, instance, sessionId) {
  return Buffer.concat([await sha256(header), Buffer.from(instance), sessionId]);
}

/**
 * AES-256-GCM-SIV.
 * @param {Uint8Array} key
 * @param {Uint8Array} nonce
 * @param {Uint8Array} aad
 * @param {Uint8Array} both
 */
export function wrap(key, nonce, aad, both) {
  return Buffer.from(gcmsiv(key, nonce, aad).encrypt(both));
}

/** @param {Uint8Array} seed @param {string} instance @param {Uint8Array} sessionId */
export function responseKey(seed, instance, sessionId) {
  return expand(seed, Buffer.concat([Buffer.from('cloister response v1'), Buffer.from(instance), sessionId]));
}

/**
 * The short name of a worker's HPKE key.
 * @param {string} suite
 * @param {Uint8Array} publicKey
 */
export async function keyId(suite, publicKey) {
  return (await sha256(context('cloister hpke key v1', suite, publicKey))).subarray(0, 8);
}

/** What an answer is bound to. @param {Uint8Array} header @param {Uint8Array} requestTag */
export function transcript(header, requestTag) {
  return sha256(header, requestTag);
}
