// A trust bundle, as far as a receipt is checked by it, and the Attestation Results that it believes.
// The same rules as `cloister receipt verify` keeps (cloister/client/bundle.py, trust.py, cloister/ear).

import { fromBase64, fromBase64url, hex, text, utf8 } from "./bytes.mjs";
import { readKey, signedBy, tokenHolds } from "./signatures.mjs";
import { tdMeasurement } from "./trust_domain.mjs";

const FORMAT = "cloister trust bundle v1";
const KEY_SET = "application/vnd.cloister.verifier-keys+json";
const PROFILE = "tag:github.com,2023:veraison/ear";
const LEEWAY_S = 30;
const LONGEST_LIFE_S = 3600;

/** @typedef {Awaited<ReturnType<typeof readKey>>} Key */

/** What can be read of a bundle without believing it. @param {string} content */
export function readBundle(content) {
  const bundle = JSON.parse(content);
  if (bundle?.format !== FORMAT) throw new Error("it is no trust bundle of Cloister");
  for (const name of ["cluster", "verifier", "anchor"]) {
    if (!bundle[name]) throw new Error(`it lacks '${name}'`);
  }
  for (const name of ["mrenclave", "td_measurement", "owners", "verifier_policies"]) {
    const pins = bundle[name];
    const isList = Array.isArray(pins) && pins.length > 0 && pins.every((pin) => /^[0-9a-f]{64}$/.test(pin));
    if (pins !== undefined && !isList) throw new Error(`its '${name}' is no list of 32 bytes in hexadecimal digits`);
  }
  return bundle;
}

/** The verifier's keys that count, and on whose word. @param {any} bundle @returns {Promise<{keys: Key[], by: string}>} */
export async function verifierKeys(bundle) {
  const { id, jwks, thumbprints, key_signers: signers, key_threshold: threshold, key_set: keySet } = bundle.verifier;
  if (signers === undefined) {
    const keys = await Promise.all(jwks.keys.map(readKey));
    const pinned = keys.filter((key) => thumbprints.includes(key.kid));
    if (pinned.length === 0) throw new Error("none of its keys is pinned");
    return { keys: pinned, by: `${pinned.length} pinned by the bundle` };
  }
  if (!(Number.isInteger(threshold) && threshold >= 1 && threshold <= signers.length)) {
    throw new Error("it does not say how many must have signed");
  }
  const { payload, signers: found } = await signedBy(keySet, KEY_SET, signers, fromBase64);
  if (found.size < threshold) throw new Error(`${found.size} of those who may sign it have, and ${threshold} must`);
  const members = JSON.parse(text(payload));
  if (members.issuer !== id) throw new Error("the keys are another verifier's");
  const keys = await Promise.all(members.keys.map(readKey));
  return { keys, by: `set ${members.version}, signed by ${found.size} of ${signers.length} who may` };
}

/** Find the key that a token is signed with. @param {string} token @param {Key[]} keys */
export async function openToken(token, keys) {
  if (token.length > 16384) throw new Error("it is longer than a token can be");
  const segments = token.split(".");
  if (segments.length !== 3) throw new Error("it is no token");
  const header = JSON.parse(text(fromBase64url(segments[0])));
  if (header.typ !== "ear+jwt" || Object.keys(header).sort().join() !== "alg,kid,typ") {
    throw new Error("its header is not that of an Attestation Result");
  }
  const key = keys.find((each) => each.kid === header.kid);
  if (!key) throw new Error("it is signed with a key that is not the verifier's");
  const message = utf8(`${segments[0]}.${segments[1]}`);
  if (header.alg !== key.algorithm || !(await tokenHolds(key, fromBase64url(segments[2]), message))) {
    throw new Error("its signature does not hold");
  }
  return { key, result: await readResult(JSON.parse(text(fromBase64url(segments[1])))) };
}

/** @param {any} claims */
async function readResult(claims) {
  const own = claims.cloister;
  const jwk = claims.cnf?.jwk;
  if (claims.eat_profile !== PROFILE || jwk?.kty !== "OKP" || jwk.crv !== "Ed25519" || !own) {
    throw new Error("it is of another profile");
  }
  return {
    issuer: claims.iss,
    audience: claims.aud,
    id: claims.jti,
    issuedAt: claims.iat,
    expiresAt: claims.exp,
    receiptKey: fromBase64url(jwk.x),
    status: claims.submods?.[own.role]?.["ear.status"],
    ...own,
    measurement: own.tee === "tdx" ? await tdMeasurement(own.td) : own.mrenclave,
  };
}

/** @typedef {Awaited<ReturnType<typeof readResult>>} Result */

/** Meant for the mesh, by this verifier, and in force when the receipt says that it was made. */
export function checkInForce(
  /** @type {Result} */ result,
  /** @type {Key} */ key,
  /** @type {any} */ bundle,
  /** @type {number} */ at,
) {
  if (result.issuer !== bundle.verifier.id) throw new Error("it is another verifier's");
  if (result.audience !== "mesh") throw new Error("it is meant for somebody else than the mesh");
  if (!(key.beginsAt <= result.issuedAt && result.issuedAt < key.endsAt))
    throw new Error("its key was not in use then");
  if (result.issuedAt > at + LEEWAY_S) throw new Error("it was made after the answer");
  if (result.expiresAt <= at - LEEWAY_S) throw new Error("it had ended before the answer");
  if (result.expiresAt - result.issuedAt > LONGEST_LIFE_S) throw new Error("it is good for longer than any may be");
}

/** Code that the bundle believes. @returns {boolean} Whether all that the bundle asks for could be looked at. */
export function checkBelievable(/** @type {Result} */ result, /** @type {any} */ bundle) {
  const name = `spiffe://${bundle.cluster}/worker/${result.instance}`;
  if (result.cluster !== bundle.cluster || result.role !== "worker" || result.spiffe_id !== name) {
    throw new Error("it is not about a worker of this mesh");
  }
  if (result.simulated !== bundle.anchor.simulated) {
    throw new Error(
      result.simulated
        ? "its hardware is simulated, and the bundle believes Intel's root only"
        : "its root is another one than the bundle's",
    );
  }
  if (result.debug !== false) throw new Error("the enclave is open to a debugger");
  if (bundle.verifier_policies && !bundle.verifier_policies.includes(hex(fromBase64url(result.policy_digest)))) {
    throw new Error("it was appraised by a policy that the bundle does not name");
  }
  const judgesByPolicy = /reference_values/.test(bundle.policy ?? "");
  const ofItsKind = (result.tee === "tdx" ? /\btd_reference_values/ : /\breference_values/).test(bundle.policy ?? "");
  if (!bundle.mrenclave && !bundle.td_measurement && !judgesByPolicy) {
    throw new Error("the bundle names no code, so nobody is believed");
  }
  checkCode(result, bundle, ofItsKind);
  return !judgesByPolicy;
}

/** Pins of one technology admit no other. @param {Result} result @param {any} bundle @param {boolean} inPolicy */
function checkCode(result, bundle, inPolicy) {
  const inTrustDomain = result.tee === "tdx";
  const pins = inTrustDomain ? bundle.td_measurement : bundle.mrenclave;
  if (!pins && !inPolicy) {
    throw new Error(
      inTrustDomain
        ? "it is a trust domain, and the bundle names enclaves only"
        : "it is an enclave, and the bundle names trust domains only",
    );
  }
  if (pins && !pins.includes(result.measurement)) throw new Error("its code is not code that the bundle names");
}
