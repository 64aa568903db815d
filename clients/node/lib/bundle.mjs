/**
 * The trust bundle: whom this client believes. Reading is strict, and what this client cannot hold a worker against is
 * refused rather than passed over: it judges no quotes, so it can enforce no appraisal policy of its own.
 */

import { readFile } from 'node:fs/promises';

import { readKeySet } from './dsse.mjs';
import { readKeys } from './ear.mjs';
import { CloisterError, InvalidRequest } from './errors.mjs';
import { array, exactObject, hex32, integer, text } from './json.mjs';
import { SUITES } from './hpke.mjs';
import { SEAL_VERSION } from './keys.mjs';

const FORMAT = 'cloister trust bundle v1';
const REQUIRED = ['format', 'cluster', 'root_ca_pem', 'verifier', 'anchor'];
const OPTIONAL = ['mrenclave', 'td_measurement', 'owners', 'pinned', 'verifier_policies', 'floors'];
const SIGNERS = ['key_signers', 'key_threshold', 'key_set'];

export class TrustBundle {
  /**
   * @param {object} fields
   * @param {string} fields.cluster trust domain of the mesh
   * @param {string} fields.verifierId SPIFFE id that Attestation Results must come from
   * @param {boolean} fields.simulated whether its anchor is a simulator's root
   * @param {Set<string>} [fields.mrenclave] measurements of enclaves that may serve
   * @param {Set<string>} [fields.tdMeasurement] the same of trust domains
   * @param {Set<string>} [fields.owners] whose models may answer; every owner's where left out
   * @param {Set<string>} [fields.verifierPolicies] under which Results count; every one where left out
   * @param {import('./dsse.mjs').Signers} [fields.signers] who may say which keys are the verifier's
   * @param {number} fields.version of the key set
   * @param {import('./ear.mjs').KeySet} fields.keys the verifier's
   * @param {boolean} fields.weak whether it was pinned by a fingerprint alone
   * @param {{hpkeSuites: Set<string>, sealVersion: number}} fields.floors what a worker must offer at least
   */
  constructor(fields) {
    this.cluster = fields.cluster;
    this.verifierId = fields.verifierId;
    this.simulated = fields.simulated;
    this.mrenclave = fields.mrenclave;
    this.tdMeasurement = fields.tdMeasurement;
    this.owners = fields.owners;
    this.verifierPolicies = fields.verifierPolicies;
    this.signers = fields.signers;
    this.version = fields.version;
    this.keys = fields.keys;
    this.weak = fields.weak;
    this.floors = fields.floors;
  }

  /** @param {string} path */
  static async read(path) {
    return TrustBundle.from(JSON.parse(await readFile(path, 'utf8')));
  }

  /** @param {unknown} content of the file @returns {Promise<TrustBundle>} */
  static async from(content) {
    try {
      return await parsed(members(content, REQUIRED, OPTIONAL));
    } catch (error) {
      if (error instanceof CloisterError) throw error;
      throw new InvalidRequest(`not a trust bundle for this client: ${/** @type {Error} */ (error).message}`);
    }
  }

  /**
   * Take over a newer set of the verifier's keys, if it is one; throws if its signers did not sign it.
   * @param {Buffer} keySet
   */
  async learn(keySet) {
    if (keySet.length === 0 || this.signers === undefined) return;
    const found = await readKeySet(keySet, this.signers, this.verifierId);
    if (found.version > this.version) ({ version: this.version, keys: this.keys } = found);
  }
}

/** @param {Record<string, any>} found */
async function parsed(found) {
  const verifier = members(found.verifier, ['id', 'jwks', 'thumbprints'], [...SIGNERS, 'witness']);
  if (found.format !== FORMAT) throw new Error('another format');
  if (!/^[a-z0-9.-]+$/.test(found.cluster) || !String(verifier.id).startsWith(`spiffe://${found.cluster}/verifier/`)) {
    throw new Error('its verifier is not one of its cluster');
  }
  const anchor = members(found.anchor, ['name', 'simulated'], ['root_der']);
  const anotherRoot = 'root_der' in anchor;
  if (anchor.simulated !== anotherRoot) throw new Error("only Intel's root is not simulated, and it is not given");
  const signers = readSigners(verifier);
  const signed = signers && (await readKeySet(Buffer.from(JSON.stringify(verifier.key_set)), signers, verifier.id));
  return new TrustBundle({
    cluster: found.cluster,
    verifierId: verifier.id,
    simulated: anchor.simulated,
    mrenclave: pins(found.mrenclave),
    tdMeasurement: pins(found.td_measurement),
    owners: pins(found.owners),
    verifierPolicies: pins(found.verifier_policies),
    signers,
    version: signed ? signed.version : 0,
    keys: signed ? signed.keys : await readKeys(exactObject(verifier.jwks).keys, new Set(array(verifier.thumbprints))),
    weak: found.pinned !== undefined && found.pinned.by !== 'attested',
    floors: readFloors(found.floors ?? { hpke_suites: ['xwing'], seal_version: 1 }),
  });
}

/** @param {Record<string, any>} verifier */
function readSigners(verifier) {
  const given = SIGNERS.filter((name) => name in verifier);
  if (given.length === 0) return undefined;
  if (given.length !== SIGNERS.length)
    throw new Error('its verifier has not all of key_signers, key_threshold and key_set');
  const keys = new Set(array(verifier.key_signers).map(hex32));
  return { keys, threshold: integer(verifier.key_threshold, 1, keys.size) };
}

/** @param {unknown} value */
function readFloors(value) {
  const floors = exactObject(value, ['hpke_suites', 'seal_version']);
  const hpkeSuites = new Set(array(floors.hpke_suites).map((each) => text(each)));
  if (hpkeSuites.size === 0 || [...hpkeSuites].some((each) => !Object.hasOwn(SUITES, each))) {
    throw new Error("'hpke_suites' in 'floors' is not a list of known suites");
  }
  return { hpkeSuites, sealVersion: integer(floors.seal_version, 1, SEAL_VERSION) };
}

/** One or more digests; an empty list is a mistake, never "any". @param {unknown} value */
function pins(value) {
  if (value === undefined) return undefined;
  const found = new Set(array(value).map(hex32));
  if (found.size === 0) throw new Error('a list of pins is empty');
  return found;
}

/** @param {unknown} value @param {string[]} required @param {string[]} optional */
function members(value, required, optional) {
  const found = exactObject(value);
  for (const name of required) if (!(name in found)) throw new Error(`it lacks '${name}'`);
  if ('policy' in found)
    throw new Error('it has an appraisal policy of its own, which only the Python client can enforce');
  for (const name of Object.keys(found)) {
    if (!required.includes(name) && !optional.includes(name))
      throw new Error(`it has an unknown member '${name.slice(0, 32)}'`);
  }
  return found;
}
