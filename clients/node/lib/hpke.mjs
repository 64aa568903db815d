/** HPKE base mode (RFC 9180), one message for each encapsulation: `enc`, then the ciphertext. X-Wing is from @noble. */

import { KEM_MLKEM768_X25519 } from '@panva/hpke-noble';
import { AEAD_AES_256_GCM, CipherSuite, KDF_HKDF_SHA256, KEM_DHKEM_X25519_HKDF_SHA256 } from 'hpke';

import { InvalidRequest, SealBroken } from './errors.mjs';

/** @type {Record<string, {suite: CipherSuite<any>, publicBytes: number, encBytes: number}>} */
export const SUITES = {
  xwing: {
    suite: new CipherSuite(KEM_MLKEM768_X25519, KDF_HKDF_SHA256, AEAD_AES_256_GCM),
    publicBytes: 1216,
    encBytes: 1120,
  },
  x25519: {
    suite: new CipherSuite(KEM_DHKEM_X25519_HKDF_SHA256, KDF_HKDF_SHA256, AEAD_AES_256_GCM),
    publicBytes: 32,
    encBytes: 32,
  },
};

/**
 * @param {string} name `xwing` or `x25519`
 * @param {Uint8Array} publicKey
 * @param {Uint8Array} plaintext
 * @param {Uint8Array} info
 * @returns {Promise<Buffer>}
 */
export async function seal(name, publicKey, plaintext, info) {
  const found = Object.hasOwn(SUITES, name) ? SUITES[name] : undefined;
  if (found === undefined || publicKey.length !== found.publicBytes) {
    throw new InvalidRequest('not a public key of a known HPKE suite');
  }
  const key = await found.suite.DeserializePublicKey(publicKey);
  const { encapsulatedSecret, ciphertext } = await found.suite.Seal(key, plaintext, { info });
  return Buffer.concat([encapsulatedSecret, ciphertext]);
}

/**
 * What was sealed to the key of a 32-byte seed. A client has no use for it; vectors are checked with it.
 * @param {string} name
 * @param {Uint8Array} seed
 * @param {Uint8Array} sealed
 * @param {Uint8Array} info
 */
export async function open(name, seed, sealed, info) {
  const { suite, encBytes } = SUITES[name];
  try {
    const key = await suite.DeserializePrivateKey(seed, true);
    return Buffer.from(await suite.Open(key, sealed.subarray(0, encBytes), sealed.subarray(encBytes), { info }));
  } catch {
    throw new SealBroken();
  }
}
