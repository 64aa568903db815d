/** Attestation Results: what the verifier believes of a worker, as an EAR in a JWT (docs/seal-format.md). */

import { fromBase64url, sha256 } from './bytes.mjs';
import { Rejected } from './errors.mjs';
import { array, exactObject, flag, hex32, integer, parseJson, text } from './json.mjs';
import { measurementOf, readTd } from './trust_domain.mjs';

const subtle = globalThis.crypto.subtle;
const MAX_TOKEN_BYTES = 16 * 1024;
const LEEWAY_S = 30;
const MAX_TIME = 2 ** 32 - 1;
const P256_HALF_ORDER = 0x7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8n;
const PROFILE = 'tag:github.com,2023:veraison/ear';
const MEMBERS = [
  'eat_profile',
  'iss',
  'aud',
  'jti',
  'iat',
  'exp',
  'eat_nonce',
  'ear.verifier-id',
  'cnf',
  'submods',
  'cloister',
];
const OWN_MEMBERS = [
  'role',
  'spiffe_id',
  'cluster',
  'instance',
  'tls_spki_sha256',
  'hpke_suite',
  'hpke_public',
  'tee',
  'debug',
  'tcb_status',
  'advisory_ids',
  'tcb_evaluation',
  'ppid_sha256',
  'collateral_sha256',
  'config_digest',
  'anchor',
  'simulated',
  'policy_digest',
];

/** @type {Record<string, string[]>} what says which code it is, by technology */
const CODE_MEMBERS = { sgx: ['mrenclave', 'mrsigner', 'isvprodid', 'isvsvn'], tdx: ['td'] };

/**
 * @typedef {{key: CryptoKey, algorithm: string, begins: number, ends: number}} VerifierKey times in seconds
 * @typedef {Map<string, VerifierKey>} KeySet by RFC 7638 thumbprint
 */

/**
 * Read JSON Web Keys; throws for anything but public keys on P-256 and Ed25519.
 * @param {unknown} jwks the array of keys
 * @param {Set<string>} [pinned] thumbprints of those that count; all where left out
 * @returns {Promise<KeySet>}
 */
export async function readKeys(jwks, pinned) {
  /** @type {KeySet} */
  const found = new Map();
  for (const jwk of array(jwks)) {
    const [kid, key] = await readKey(exactObject(jwk));
    if (pinned === undefined || pinned.has(kid)) found.set(kid, key);
  }
  if (found.size === 0) throw new Error('no key to be trusted');
  return found;
}

/** @param {Record<string, any>} jwk @returns {Promise<[string, VerifierKey]>} */
async function readKey(jwk) {
  const ec = jwk.kty === 'EC' && jwk.crv === 'P-256';
  if (!ec && !(jwk.kty === 'OKP' && jwk.crv === 'Ed25519')) throw new Error('another kind of key');
  const coordinates = ec ? { x: jwk.x, y: jwk.y } : { x: jwk.x };
  for (const each of Object.values(coordinates)) digest(each);
  const named = { crv: jwk.crv, kty: jwk.kty, ...coordinates };
  const kid = (await sha256(Buffer.from(JSON.stringify(named)))).toString('base64url');
  const algorithm = ec ? 'ES256' : 'EdDSA';
  if ('d' in jwk || (jwk.kid ?? kid) !== kid || (jwk.alg ?? algorithm) !== algorithm) throw new Error('not its name');
  const kind = ec ? { name: 'ECDSA', namedCurve: 'P-256' } : { name: 'Ed25519' };
  const key = await subtle.importKey('jwk', named, kind, false, ['verify']);
  const begins = jwk.nbf === undefined ? 0 : integer(jwk.nbf, 0, MAX_TIME);
  const ends = jwk.exp === undefined ? Infinity : integer(jwk.exp, 0, MAX_TIME);
  if (ends <= begins) throw new Error('a key that ends before it begins');
  return [kid, { key, algorithm, begins, ends }];
}

/**
 * What a token says, found signed by one of the keys, meant for us and not expired.
 * @param {string} token
 * @param {KeySet} keys
 * @param {{issuer: string, audience: string, nowS: number, maxLifeS: number}} expected
 */
export async function checkToken(token, keys, { issuer, audience, nowS, maxLifeS }) {
  const [kid, payload] = await verifiedPayload(token, keys);
  const result = attempt('malformed', () => readClaims(parseJson(payload)));
  const key = /** @type {VerifierKey} */ (keys.get(kid));
  if (result.issuer !== issuer) throw rejected('issuer');
  if (result.audience !== audience) throw rejected('audience');
  if (result.issuedAt < key.begins || result.issuedAt >= key.ends) throw rejected('key_retired');
  if (result.issuedAt > nowS + LEEWAY_S) throw rejected('not_yet');
  if (result.expiresAt <= nowS - LEEWAY_S) throw rejected('expired');
  if (result.expiresAt - result.issuedAt > maxLifeS) throw rejected('too_long');
  return { ...result, measurement: result.td ? await measurementOf(result.td) : result.mrenclave };
}

/**
 * @param {string} token
 * @param {KeySet} keys
 * @returns {Promise<[string, Buffer]>} the key's thumbprint, and the payload
 */
async function verifiedPayload(token, keys) {
  const [header, payload, signature] = attempt('malformed', () => segments(token));
  const { kid, alg } = attempt('malformed', () => readHeader(header));
  const found = keys.get(kid);
  if (found === undefined) throw rejected('key_unknown');
  const lowS =
    alg !== 'ES256' ||
    (signature.length === 64 && BigInt(`0x${signature.subarray(32).toString('hex')}`) <= P256_HALF_ORDER);
  if (alg !== found.algorithm || signature.length !== 64 || !lowS) throw rejected('signature');
  const kind = alg === 'ES256' ? { name: 'ECDSA', hash: 'SHA-256' } : { name: 'Ed25519' };
  const signed = Buffer.from(token.slice(0, token.lastIndexOf('.')));
  if (!(await subtle.verify(kind, found.key, Buffer.from(signature), signed))) throw rejected('signature');
  return [kid, payload];
}

/** @param {string} token */
function segments(token) {
  const parts = token.length > MAX_TOKEN_BYTES ? [] : token.split('.');
  if (parts.length !== 3) throw new Error('not three segments');
  return parts.map(fromBase64url);
}

/** The header holds `alg`, `kid` and `typ` and nothing else: no key ever comes with the token. @param {Buffer} raw */
function readHeader(raw) {
  const header = exactObject(parseJson(raw), ['alg', 'kid', 'typ']);
  if (header.typ !== 'ear+jwt') throw new Error('another type');
  return { kid: text(header.kid), alg: text(header.alg) };
}

/**
 * `measurement` stands for the code: MRENCLAVE, or the digest of a trust domain's measurements; 64 hex digits.
 * @typedef {ReturnType<typeof readClaims> & {measurement: string}} AttestationResult
 */

/** What code it is; of the members that only the other technology has, nothing. @param {Record<string, any>} own */
function readCode(own) {
  if (own.tee === 'tdx') return { mrenclave: '', mrsigner: '', isvprodid: 0, isvsvn: 0, td: readTd(own.td) };
  return {
    mrenclave: hex32(own.mrenclave),
    mrsigner: hex32(own.mrsigner),
    isvprodid: integer(own.isvprodid, 0, MAX_TIME),
    isvsvn: integer(own.isvsvn, 0, MAX_TIME),
    td: undefined,
  };
}

/** Read the claims; throws for anything that is not exactly of this profile. @param {unknown} payload */
function readClaims(payload) {
  const claims = exactObject(payload, MEMBERS);
  const { tee } = exactObject(claims.cloister);
  if (!Object.hasOwn(CODE_MEMBERS, tee)) throw new Error('neither an enclave nor a trust domain');
  const own = exactObject(claims.cloister, [...OWN_MEMBERS, ...CODE_MEMBERS[tee]]);
  const role = text(own.role);
  const submodule = exactObject(exactObject(claims.submods, [role])[role], [
    'ear.status',
    'ear.trustworthiness-vector',
    'ear.appraisal-policy-id',
  ]);
  const vector = exactObject(submodule['ear.trustworthiness-vector'], ['hardware', 'executables', 'configuration']);
  const jwk = exactObject(exactObject(claims.cnf, ['jwk']).jwk, ['kty', 'crv', 'x']);
  Object.values(exactObject(claims['ear.verifier-id'], ['developer', 'build'])).forEach(text);
  if (claims.eat_profile !== PROFILE || jwk.kty !== 'OKP' || jwk.crv !== 'Ed25519') throw new Error('another profile');
  const result = {
    issuer: text(claims.iss),
    audience: text(claims.aud),
    earId: text(claims.jti),
    issuedAt: integer(claims.iat, 0, MAX_TIME),
    expiresAt: integer(claims.exp, 0, MAX_TIME),
    nonce: digest(claims.eat_nonce),
    role,
    spiffeId: text(own.spiffe_id),
    cluster: text(own.cluster),
    instance: text(own.instance),
    tlsSpkiSha256: digest(own.tls_spki_sha256),
    receiptKey: digest(jwk.x),
    hpkeSuite: text(own.hpke_suite),
    hpkePublic: fromBase64url(text(own.hpke_public)),
    tee: text(own.tee),
    ...readCode(own),
    debug: flag(own.debug),
    tcbStatus: text(own.tcb_status),
    advisoryIds: array(own.advisory_ids).map(text),
    tcbEvaluation: integer(own.tcb_evaluation, 0, MAX_TIME),
    ppidSha256: hex32(own.ppid_sha256),
    collateralSha256: digest(own.collateral_sha256),
    configDigest: digest(own.config_digest),
    anchor: text(own.anchor),
    simulated: flag(own.simulated),
    hardware: tier(vector.hardware),
    executables: tier(vector.executables),
    configuration: tier(vector.configuration),
    policyId: text(submodule['ear.appraisal-policy-id']),
    policyDigest: digest(own.policy_digest),
  };
  checkAgreement(result, submodule['ear.status']);
  return result;
}

/** @param {any} result @param {unknown} status */
function checkAgreement(result, status) {
  const worst = Math.max(result.hardware, result.executables, result.configuration);
  const said = worst >= 96 ? 'contraindicated' : worst >= 32 ? 'warning' : worst >= 2 ? 'affirming' : 'none';
  if (status !== said) throw new Error('status and vector disagree');
  if (result.simulated && result.hardware !== 96) throw new Error('simulated evidence with another hardware claim');
  if (!result.spiffeId.startsWith(`spiffe://${result.cluster}/${result.role}/`)) throw new Error('another SPIFFE id');
  if (result.expiresAt <= result.issuedAt) throw new Error('ends before it begins');
}

/** 32 bytes in base64url. @param {unknown} value */
function digest(value) {
  const raw = fromBase64url(value);
  if (raw.length !== 32) throw new Error('not 32 bytes');
  return raw;
}

/** An AR4SI claim. @param {unknown} value */
function tier(value) {
  return integer(value, -128, 127);
}

/** @template T @param {string} why @param {() => T} read @returns {T} */
function attempt(why, read) {
  try {
    return read();
  } catch {
    throw rejected(why);
  }
}

/** @param {string} why */
function rejected(why) {
  return new Rejected(`the Attestation Result is not accepted: ${why}`, `token.${why}`);
}
