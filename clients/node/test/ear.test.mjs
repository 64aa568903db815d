import assert from 'node:assert/strict';
import { test } from 'node:test';

import { TrustBundle } from '../lib/bundle.mjs';
import { readKeySet } from '../lib/dsse.mjs';
import { checkToken, readKeys } from '../lib/ear.mjs';
import { parseJson } from '../lib/json.mjs';
import { believe } from '../lib/trust.mjs';
import { hex, reasonOf, vectors } from './vectors.mjs';

const {
  now,
  issuer,
  audience,
  max_life_s: maxLifeS,
  jwks,
  tokens,
  key_signers,
  key_threshold,
  key_sets,
  trust,
  workers,
} = vectors('ear-v1');
const nowS = Date.parse(now) / 1000;

for (const { name, token, reason } of tokens) {
  test(`token: ${name}`, async () => {
    const keys = await readKeys(jwks.keys);
    assert.equal(await reasonOf(checkToken(token, keys, { issuer, audience, nowS, maxLifeS })), reason);
  });
}

for (const { name, key_set, reason } of key_sets) {
  test(`key set: ${name}`, async () => {
    const signers = { keys: new Set(/** @type {string[]} */ (key_signers)), threshold: key_threshold };
    assert.equal(await reasonOf(readKeySet(Buffer.from(key_set), signers, issuer)), reason);
  });
}

/** @param {any} changes */
function changed(changes) {
  const members = Object.entries({ ...trust, ...changes }).filter(([, value]) => value !== null);
  return TrustBundle.from(Object.fromEntries(members));
}

for (const { name, reason, trust_changes, model_name, ...offer } of workers) {
  test(`worker: ${name}`, async () => {
    const serving = {
      instance: offer.instance,
      bundle: { attestation_result: offer.token },
      model_version: offer.model_version,
      model_digest: hex(offer.model_digest),
      manifest: { manifest: hex(offer.manifest), signature: hex(offer.signature), public_key: hex(offer.public_key) },
    };
    assert.equal(await reasonOf(believe(serving, model_name, await changed(trust_changes), nowS)), reason);
  });
}

test('a newer set of keys is learned, and an older one is not', async () => {
  const bundle = await changed({});
  const newer = key_sets.find((/** @type {any} */ each) => each.name.includes('version 7'));
  await bundle.learn(Buffer.from(newer.key_set));
  assert.equal(bundle.version, 7);
  await bundle.learn(Buffer.from(key_sets[0].key_set));
  assert.equal(bundle.version, 7);
});

for (const [name, changes] of /** @type {[string, any][]} */ ([
  ['a policy that this client cannot enforce', { policy: 'policy_id = "ours"' }],
  ['a member that nobody knows', { extra: 1 }],
  ['an empty list of measurements', { mrenclave: [] }],
  ['a measurement in capitals', { mrenclave: ['AB'.repeat(32)] }],
  ['an anchor that calls itself genuine', { anchor: { name: 'x', simulated: false, root_der: 'AA==' } }],
  ['no verifier', { verifier: null }],
  ['no suite', { floors: { hpke_suites: [], seal_version: 1 } }],
  ['a suite that nobody knows', { floors: { hpke_suites: ['rsa'], seal_version: 1 } }],
  ['a version that is not known', { floors: { hpke_suites: ['xwing'], seal_version: 3 } }],
  ['another format', { format: 'cloister trust bundle v2' }],
])) {
  test(`trust bundle: ${name}`, async () => {
    assert.equal(await reasonOf(changed(changes)), 'request.invalid');
  });
}

for (const text of ['{"a":1,"a":1}', '{"a":{"b":[{"c":1,"\\u0063":2}]}}', '[1.0]', '[1e3]', '{"a":"b":1}', '']) {
  test(`JSON that is refused: ${text}`, () => {
    assert.throws(() => parseJson(text));
  });
}

test('JSON that looks doubtful and is not', () => {
  const value = { a: 'a', b: ['a', { a: 1, b: '"a":1.5,{' }], c: [{ a: 1 }, { a: -2 }] };
  assert.deepEqual(parseJson(JSON.stringify(value)), value);
});
