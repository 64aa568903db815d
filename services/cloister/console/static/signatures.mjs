// Hashes and signatures, all of them the browser's own (WebCrypto). Nothing is computed by hand but what is hashed.

import { base64url, concat, fromBase64url, utf8 } from "./bytes.mjs";

/** @typedef {import("./bytes.mjs").Bytes} Bytes */

const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

/** @param {...Bytes} parts @returns {Promise<Bytes>} */
export async function sha256(...parts) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", concat(...parts)));
}

/** @param {Bytes} publicKey @param {Bytes} signature @param {Bytes} message */
export async function ed25519Holds(publicKey, signature, message) {
  if (publicKey.length !== 32 || signature.length !== 64) return false;
  try {
    const key = await crypto.subtle.importKey("raw", publicKey, { name: "Ed25519" }, false, ["verify"]);
    return await crypto.subtle.verify({ name: "Ed25519" }, key, signature, message);
  } catch (error) {
    if (error instanceof DOMException && error.name === "NotSupportedError") throw unsupported();
    return false;
  }
}

function unsupported() {
  return new Error("this browser knows no Ed25519; take a newer one, or 'cloister receipt verify'");
}

/**
 * A key of a JSON Web Key Set, of the two kinds that verifiers sign with; its name must be its thumbprint.
 * @param {Record<string, any>} jwk
 */
export async function readKey(jwk) {
  const kinds = { EC: ["crv", "kty", "x", "y"], OKP: ["crv", "kty", "x"] };
  const members = kinds[/** @type {"EC" | "OKP"} */ (jwk.kty)];
  const curve = jwk.kty === "EC" ? "P-256" : "Ed25519";
  if (!members || jwk.crv !== curve || "d" in jwk) throw new Error("another kind of key");
  for (const name of members.slice(2)) {
    if (fromBase64url(jwk[name]).length !== 32) throw new Error("a key is not 32 bytes");
  }
  const required = Object.fromEntries(members.map((name) => [name, jwk[name]]));
  const kid = base64url(await sha256(utf8(JSON.stringify(required))));
  const algorithm = jwk.kty === "EC" ? "ES256" : "EdDSA";
  if ((jwk.kid ?? kid) !== kid || (jwk.alg ?? algorithm) !== algorithm) throw new Error("a key has another's name");
  return { kid, algorithm, jwk: required, beginsAt: jwk.nbf ?? -Infinity, endsAt: jwk.exp ?? Infinity };
}

/**
 * @param {{algorithm: string, jwk: Record<string, string>}} key
 * @param {Bytes} signature
 * @param {Bytes} message
 */
export async function tokenHolds(key, signature, message) {
  if (key.algorithm === "EdDSA") return ed25519Holds(fromBase64url(key.jwk.x), signature, message);
  if (signature.length !== 64 || !hasLowS(signature)) return false;
  const curve = { name: "ECDSA", namedCurve: "P-256" };
  const imported = await crypto.subtle.importKey("jwk", key.jwk, curve, false, ["verify"]);
  return crypto.subtle.verify({ name: "ECDSA", hash: "SHA-256" }, imported, signature, message);
}

/** Of the two signatures that ECDSA allows, verifiers make the one with the smaller s. @param {Bytes} signature */
function hasLowS(signature) {
  const s = signature.subarray(32).reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);
  return s <= P256_ORDER / 2n;
}

/**
 * The documents that people sign (DSSE): which of the trusted keys signed this payload for this purpose.
 * @param {any} envelope @param {string} payloadType @param {string[]} trusted Hex digits.
 * @param {(text: string) => Bytes} decode
 */
export async function signedBy(envelope, payloadType, trusted, decode) {
  if (envelope?.payloadType !== payloadType || !Array.isArray(envelope.signatures)) {
    throw new Error("not a signed document of this kind");
  }
  const payload = decode(envelope.payload);
  const kind = utf8(payloadType);
  const message = concat(utf8(`DSSEv1 ${kind.length} ${payloadType} ${payload.length} `), payload);
  const found = new Set();
  for (const { keyid, sig } of envelope.signatures) {
    if (!trusted.includes(keyid)) continue;
    const key = Uint8Array.from(keyid.match(/../g), (/** @type {string} */ pair) => parseInt(pair, 16));
    if (await ed25519Holds(key, decode(sig), message)) found.add(keyid);
  }
  return { payload, signers: found };
}
