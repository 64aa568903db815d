import assert from 'node:assert/strict';
import { test } from 'node:test';

import { TrustBundle } from '../lib/bundle.mjs';
import { checkToken } from '../lib/ear.mjs';
import { readExactly, verifyBundle, verifyContent, verifyReceipt } from '../lib/receipt.mjs';
import { AUDIENCE, checkBelievable, MAX_LIFE_S } from '../lib/trust.mjs';
import { decode } from '../lib/wire.mjs';
import { hex, reasonOf, vectors } from './vectors.mjs';

const { receipt_key, request, response, batches, broken, kept } = vectors('receipts-v1');
const { trust } = vectors('ear-v1');
const older = vectors('seal-v1').receipt;

for (const { receipts } of batches) {
  test(`a batch of ${receipts.length}`, async () => {
    for (const each of receipts) {
      const body = await verifyReceipt(readExactly('Receipt', hex(each.receipt)), hex(receipt_key));
      await verifyContent(body, hex(request), hex(response));
      assert.equal(await reasonOf(verifyContent(body, hex(response), hex(request))), 'seal.broken');
    }
  });
}

test('the batch in seal-v1.json', async () => {
  for (const [at, raw] of older.receipts.entries()) {
    const receipt = decode('Receipt', hex(raw));
    assert.equal(receipt.body.toString('hex'), older.bodies[at]);
    await verifyContent(await verifyReceipt(receipt, hex(older.public_key)), hex(older.request), hex(older.response));
  }
});

for (const { name, receipt } of broken) {
  test(`refused: ${name}`, async () => {
    const attempt = async () => verifyReceipt(readExactly('Receipt', hex(receipt)), hex(receipt_key));
    assert.equal(await reasonOf(attempt()), 'seal.broken');
  });
}

for (const { name, bundle, reason } of kept) {
  test(`kept: ${name}`, async () => {
    assert.equal(await reasonOf(check(hex(bundle))), reason);
  });
}

/** All that is checked of a kept receipt, offline. @param {Buffer} raw */
async function check(raw) {
  const bundle = readExactly('ReceiptBundle', raw);
  const believed = await TrustBundle.from(trust);
  const nowS = decode('ReceiptBody', bundle.receipt.body).issued_at_ms / 1000;
  const expected = { issuer: believed.verifierId, audience: AUDIENCE, nowS, maxLifeS: MAX_LIFE_S };
  const result = await checkToken(bundle.attestation_result, believed.keys, expected);
  checkBelievable(result, believed);
  await verifyBundle(bundle, result);
}
