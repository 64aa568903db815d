/** Documents that people sign, k of n (DSSE v1.0.2, Ed25519), and the verifier's keys in one. */

import { ed25519Holds, fromBase64 } from './bytes.mjs';
import { readKeys } from './ear.mjs';
import { Rejected } from './errors.mjs';
import { array, exactObject, integer, parseJson } from './json.mjs';

const KEY_SET_TYPE = 'application/vnd.cloister.verifier-keys+json';
const MAX_KEY_SET_BYTES = 256 * 1024;
const MAX_KEYS = 64;
const MAX_SIGNATURES = 64;

/** @typedef {{keys: Set<string>, threshold: number}} Signers public keys in hex */

/**
 * The verifier's keys, as enough of those who may name them have signed them.
 * @param {Uint8Array} envelope
 * @param {Signers} signers
 * @param {string} issuer SPIFFE id of the verifier
 * @returns {Promise<{version: number, keys: import('./ear.mjs').KeySet}>}
 */
export async function readKeySet(envelope, signers, issuer) {
  try {
    if (envelope.length > MAX_KEY_SET_BYTES) throw new Error('too large');
    const members = exactObject(parseJson(await verified(envelope, KEY_SET_TYPE, signers)), [
      'issuer',
      'version',
      'keys',
    ]);
    const rows = array(members.keys);
    if (members.issuer !== issuer) throw new Error('of another verifier');
    if (rows.length > MAX_KEYS || !rows.every((row) => 'nbf' in row && 'exp' in row))
      throw new Error('a key without times');
    return { version: integer(members.version, 1, Number.MAX_SAFE_INTEGER), keys: await readKeys(rows) };
  } catch (error) {
    throw new Rejected(
      `not a key set that is to be believed: ${/** @type {Error} */ (error).message}`,
      'verifier_keys.refused',
    );
  }
}

/**
 * The payload of an envelope that enough of the signers have signed.
 * @param {Uint8Array} raw
 * @param {string} type
 * @param {Signers} signers
 */
async function verified(raw, type, signers) {
  const envelope = exactObject(parseJson(raw), ['payload', 'payloadType', 'signatures']);
  if (envelope.payloadType !== type) throw new Error(`not of the type ${type}`);
  const payload = fromBase64(envelope.payload);
  const rows = array(envelope.signatures).map((row) => exactObject(row, ['keyid', 'sig']));
  const names = new Set(rows.map((row) => row.keyid));
  if (rows.length < 1 || rows.length > MAX_SIGNATURES || names.size !== rows.length)
    throw new Error('no signature, or one twice');
  const signed = Buffer.concat([Buffer.from(`DSSEv1 ${type.length} ${type} ${payload.length} `), payload]);
  let found = 0;
  for (const { keyid, sig } of rows) {
    if (signers.keys.has(keyid) && (await ed25519Holds(Buffer.from(keyid, 'hex'), fromBase64(sig), signed))) found += 1;
  }
  if (found < signers.threshold) throw new Error(`${found} have signed it, and ${signers.threshold} must`);
  return payload;
}
