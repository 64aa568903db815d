import assert from 'node:assert/strict';
import { test } from 'node:test';

import { SealedConversation } from '../lib/sealed_conversation.mjs';
import { readExactly, verifyContent, verifyReceipt } from '../lib/receipt.mjs';
import { decode } from '../lib/wire.mjs';
import { hex, reasonOf, vectors } from './vectors.mjs';

const both = vectors('conversation-v1');
const { exchanges, end_envelope } = both.unpadded;
const answered = exchanges.filter((/** @type {any} */ each) => each.answer_envelope);

/** @param {any} vector */
function conversation(vector = both.unpadded) {
  const opening = {
    requestId: hex(vector.conversation_id),
    instance: vector.instance,
    sessionId: hex(vector.session_id),
    seed: hex(vector.response_seed),
    transcript: hex(vector.transcript),
    padded: vector === both.padded,
  };
  const model = { name: 'resnet', version: '1', digest: hex(vector.model_digest) };
  return SealedConversation.of(opening, model, decode('ConversationTerms', hex(vector.terms)));
}

/**
 * All of it but the end.
 * @param {any} vector
 */
async function held(vector = both.unpadded) {
  const ours = await conversation(vector);
  const opened = [];
  for (const { place, request, envelope, answer_envelope, response } of vector.exchanges) {
    const sealed = await ours.seal(hex(request));
    assert.equal(sealed.at.toString('hex'), place);
    assert.equal(sealed.envelope.toString('hex'), envelope);
    if (answer_envelope === undefined) continue;
    const answer = await ours.open(sealed.at, hex(request), hex(answer_envelope));
    assert.equal(answer.response.toString('hex'), response);
    opened.push({ at: sealed.at, request: hex(request), answer });
  }
  const last = await ours.close();
  assert.equal(last.envelope.toString('hex'), vector.close.envelope);
  return { ours, opened, at: last.at };
}

for (const [name, vector] of Object.entries(both)) {
  test(`a conversation, ${name}, comes out byte for byte, and proves its answers`, async () => {
    const { ours, opened, at } = await held(vector);
    const key = hex(vector.receipt_public_key);
    await ours.finish(at, hex(vector.end_envelope), key);
    for (const [number, { at: place, request, answer }] of opened.entries()) {
      const receipt = await ours.receipt(place, request, answer);
      assert.equal(receipt.toString('hex'), vector.receipts[number]);
      await verifyContent(await verifyReceipt(readExactly('Receipt', receipt), key), request, answer.response);
    }
  });
}

test('an end by another key is none', async () => {
  const { ours, at } = await held();
  const other = hex(vectors('receipts-v1').receipt_key);
  assert.equal(await reasonOf(ours.finish(at, hex(end_envelope), other)), 'seal.broken');
});

test('no receipt before the end', async () => {
  const { ours, opened } = await held();
  assert.equal(await reasonOf(ours.receipt(opened[0].at, opened[0].request, opened[0].answer)), 'receipt.pending');
});

for (const [name, at, answer] of [
  ['the answer to another request', exchanges[0].place, answered[1].answer_envelope],
  ['the answer at another place', answered[1].place, answered[0].answer_envelope],
  ['the end in place of an answer', exchanges[0].place, end_envelope],
  ['our own request', exchanges[0].place, exchanges[0].envelope],
  ['cut by a byte', exchanges[0].place, answered[0].answer_envelope.slice(0, -2)],
]) {
  test(`refused, and the conversation is over: ${name}`, async () => {
    const ours = await conversation();
    await ours.seal(hex(exchanges[0].request));
    await ours.seal(hex(exchanges[1].request));
    assert.equal(await reasonOf(ours.open(hex(at), hex(exchanges[0].request), hex(answer))), 'seal.broken');
    const sound = ours.open(hex(exchanges[0].place), hex(exchanges[0].request), hex(answered[0].answer_envelope));
    assert.equal(await reasonOf(sound), 'seal.broken');
  });
}
