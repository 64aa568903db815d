/** Bytes: hashes, encodings that have one spelling only, and the `context` that labels what is signed or sealed. */

const subtle = globalThis.crypto.subtle;

/** @typedef {Uint8Array<ArrayBuffer>} Bytes */

/** @param {...Uint8Array} parts @returns {Promise<Buffer>} */
export async function sha256(...parts) {
  return Buffer.from(await subtle.digest('SHA-256', Buffer.concat(parts)));
}

/**
 * HKDF-Expand (RFC 5869) with SHA-256.
 * @param {Uint8Array} secret
 * @param {Uint8Array} info
 * @param {number} [length]
 */
export async function expand(secret, info, length = 32) {
  const key = await subtle.importKey('raw', own(secret), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  const blocks = [Buffer.alloc(0)];
  for (let number = 1; 32 * (number - 1) < length; number += 1) {
    const signed = Buffer.concat([blocks[number - 1], info, Buffer.of(number)]);
    blocks.push(Buffer.from(await subtle.sign('HMAC', key, signed)));
  }
  return Buffer.concat(blocks).subarray(0, length);
}

/**
 * AES-256-GCM. A key that encrypts one message has a nonce of twelve zero bytes.
 * @param {'encrypt' | 'decrypt'} direction
 * @param {Uint8Array} key
 * @param {Uint8Array} data plaintext, or ciphertext with its tag
 * @param {Uint8Array} aad
 * @param {Uint8Array} [nonce]
 * @returns {Promise<Buffer>}
 */
export async function gcm(direction, key, data, aad, nonce = Buffer.alloc(12)) {
  const imported = await subtle.importKey('raw', own(key), 'AES-GCM', false, [direction]);
  const parameters = { name: 'AES-GCM', iv: own(nonce), additionalData: own(aad) };
  return Buffer.from(await subtle[direction](parameters, imported, own(data)));
}

/**
 * @param {Uint8Array} publicKey
 * @param {Uint8Array} signature
 * @param {Uint8Array} signed
 * @returns {Promise<boolean>}
 */
export async function ed25519Holds(publicKey, signature, signed) {
  if (publicKey.length !== 32 || signature.length !== 64) return false;
  try {
    const key = await subtle.importKey('raw', own(publicKey), 'Ed25519', false, ['verify']);
    return await subtle.verify('Ed25519', key, own(signature), own(signed));
  } catch {
    return false;
  }
}

/**
 * A label and fields as one string of bytes: for each item a type letter, its length as four bytes, and its bytes.
 * @param {string} label
 * @param {...(string | bigint | Uint8Array)} fields an integer is unsigned, with eight bytes
 */
export function context(label, ...fields) {
  return Buffer.concat([label, ...fields].flatMap(item));
}

/** @param {string | bigint | Uint8Array} field */
function item(field) {
  const kind = typeof field === 'string' ? 's' : typeof field === 'bigint' ? 'i' : 'b';
  const raw = typeof field === 'bigint' ? Buffer.alloc(8) : Buffer.from(/** @type {any} */ (field));
  if (typeof field === 'bigint') raw.writeBigUInt64BE(field);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(raw.length);
  return [Buffer.from(kind), length, raw];
}

/** Base64url without padding, in its one spelling. @param {unknown} text @returns {Buffer} */
export function fromBase64url(text) {
  if (typeof text !== 'string' || !/^[A-Za-z0-9_-]+$/.test(text)) throw new Error('not base64url');
  const raw = Buffer.from(text, 'base64url');
  if (raw.toString('base64url') !== text) throw new Error('not canonical base64url');
  return raw;
}

/** Base64 with padding. @param {unknown} text @returns {Buffer} */
export function fromBase64(text) {
  if (typeof text !== 'string' || !/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text)) {
    throw new Error('not base64');
  }
  return Buffer.from(text, 'base64');
}

/** WebCrypto takes views of memory of their own kind only. @param {Uint8Array} view @returns {Bytes} */
function own(view) {
  return /** @type {Bytes} */ (view);
}
