/**
 * What this client believes of a worker. It believes the verifier about the quote: it checks who signed the Attestation
 * Result, what it says, and the model's manifest, and not the quote and its collateral. docs/seal-format.md says what
 * that is worth.
 */

import { context, ed25519Holds } from './bytes.mjs';
import { checkToken } from './ear.mjs';
import { Rejected } from './errors.mjs';
import { hex32, integer, parseJson } from './json.mjs';

export const AUDIENCE = 'mesh';
export const MAX_LIFE_S = 3600;
const MODEL_NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/;
const INSTANCE = /^[0-9a-f]{32}$/;

/**
 * @typedef {object} VerifiedWorker
 * @property {string} instance
 * @property {import('./ear.mjs').AttestationResult} result
 * @property {string} token for receipts
 * @property {{name: string, version: string, digest: Buffer}} model
 */

/**
 * Judge one worker that a gateway offers.
 * @param {any} serving ServingWorker
 * @param {string} modelName that it is offered for
 * @param {import('./bundle.mjs').TrustBundle} trust
 * @param {number} nowS Unix time
 * @returns {Promise<VerifiedWorker>}
 */
export async function believe(serving, modelName, trust, nowS) {
  const token = serving.bundle?.attestation_result ?? '';
  const expected = { issuer: trust.verifierId, audience: AUDIENCE, nowS, maxLifeS: MAX_LIFE_S };
  // 1 the verifier we know vouches for it, to the mesh, now
  const result = await checkToken(token, trust.keys, expected);
  checkBelievable(result, trust); // 2 as a worker of this cluster, under our anchor, running code we pinned
  if (!trust.floors.hpkeSuites.has(result.hpkeSuite)) {
    throw new Rejected(
      `sealing to it by '${result.hpkeSuite}' is below the floor of the trust bundle`,
      'suite.below_floor',
    );
  }
  if (result.instance !== serving.instance) throw new Rejected("the evidence is another worker's", 'instance.other');
  const model = await checkModel(serving, modelName, trust); // 3 and it serves a model of an owner that we accept
  return { instance: result.instance, result, token, model };
}

/** @param {import('./ear.mjs').AttestationResult} result @param {import('./bundle.mjs').TrustBundle} trust */
export function checkBelievable(result, trust) {
  const id = `spiffe://${trust.cluster}/worker/${result.instance}`;
  if (
    result.cluster !== trust.cluster ||
    result.role !== 'worker' ||
    result.spiffeId !== id ||
    !INSTANCE.test(result.instance)
  ) {
    throw new Rejected('the Attestation Result is not of a worker of this mesh', 'identity.other');
  }
  if (result.simulated !== trust.simulated)
    throw new Rejected('its quote leads back to another root than ours', 'anchor.other');
  if (result.debug) throw new Rejected('the enclave is open to a debugger', 'enclave.debug');
  const policies = trust.verifierPolicies;
  if (policies !== undefined && !policies.has(result.policyDigest.toString('hex'))) {
    throw new Rejected('the verifier appraised it by a policy that the trust bundle does not name', 'policy.other');
  }
  if (trust.mrenclave === undefined && trust.tdMeasurement === undefined) {
    throw new Rejected("the trust bundle pins no code: name a measurement in 'mrenclave'", 'measurement.unpinned');
  }
  const pinned = result.td ? trust.tdMeasurement : trust.mrenclave;
  if (pinned === undefined) {
    const [found, named] = result.td ? ['a trust domain', 'enclaves'] : ['an enclave', 'trust domains'];
    throw new Rejected(`it is ${found}, and the trust bundle names ${named} only`, 'tee.other');
  }
  if (!pinned.has(result.measurement))
    throw new Rejected('its measurement is not one that is pinned', 'measurement.unknown');
}

/**
 * The model that a worker says it serves, signed by an owner that this client accepts.
 * @param {any} serving @param {string} modelName @param {import('./bundle.mjs').TrustBundle} trust
 */
async function checkModel(serving, modelName, trust) {
  const { manifest, signature, public_key: owner } = serving.manifest ?? {};
  if (trust.owners !== undefined && !trust.owners.has(owner?.toString('hex'))) {
    throw new Rejected('the model is of an owner that the trust bundle does not name', 'owner.unknown');
  }
  const invalid = new Rejected("the model's manifest is not signed by its owner", 'manifest.invalid');
  if (!owner || !(await ed25519Holds(owner, signature, context('cloister model manifest v1', manifest)))) throw invalid;
  const model = readManifest(manifest, invalid);
  if (
    model.name !== modelName ||
    model.version !== serving.model_version ||
    !model.digest.equals(serving.model_digest)
  ) {
    throw new Rejected('the manifest is of another model than the one that is offered', 'manifest.other');
  }
  return model;
}

/** @param {Buffer} raw @param {Error} invalid */
function readManifest(raw, invalid) {
  try {
    const { v, name, version, digest } = parseJson(raw);
    if (v !== 1 || !MODEL_NAME.test(name) || name.includes('..')) throw invalid;
    return {
      name,
      version: String(integer(version, 1, Number.MAX_SAFE_INTEGER)),
      digest: Buffer.from(hex32(digest), 'hex'),
    };
  } catch {
    throw invalid;
  }
}
