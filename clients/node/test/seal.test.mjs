import assert from 'node:assert/strict';
import { test } from 'node:test';

import { gcmsiv } from '@noble/ciphers/aes.js';
import { KEM_MLKEM768_X25519 } from '@panva/hpke-noble';

import { gcm } from '../lib/bytes.mjs';
import { openAnswer } from '../lib/exchange.mjs';
import { buildRequest } from '../lib/envelope.mjs';
import { split } from '../lib/framing.mjs';
import * as hpke from '../lib/hpke.mjs';
import * as keys from '../lib/keys.mjs';
import { pad, paddedBytes, strip } from '../lib/padding.mjs';
import { ClientSessions } from '../lib/session.mjs';
import { numbersOf } from '../lib/tensors.mjs';
import { decode, encode } from '../lib/wire.mjs';
import { hex, reasonOf, vectors } from './vectors.mjs';

const older = vectors('seal-v1');
const { cluster, model, workers, exchanges, broken_answers, not_after_ms } = vectors('exchange-v1');
const second = vectors('exchange-v2');
const MODEL = { ...model, digest: hex(model.digest) };

/**
 * What a client drew at random, in the order in which this one draws it, and the openings that it made.
 * @param {any[]} exchanges
 */
function drawn(exchanges) {
  const { header, request_key, response_seed } = exchanges[0];
  const values = [decode('RequestHeader', hex(header)).request_id, hex(request_key + response_seed)];
  for (const { session_secret, session_id } of exchanges[0].recipients)
    values.push(hex(session_secret), hex(session_id));
  for (const later of exchanges.slice(1)) {
    values.push(decode('RequestHeader', hex(later.header)).request_id, hex(later.request_key + later.response_seed));
  }
  const openings = new Map(
    exchanges[0].recipients.map((/** @type {any} */ each) => [each.opening_info, hex(each.opening)]),
  );
  return {
    /** @param {number} length */
    random: (length) => {
      const value = /** @type {Buffer} */ (values.shift());
      assert.equal(value.length, length);
      return value;
    },
    /** @type {typeof hpke.seal} */
    seal: async (_suite, _public, _secret, info) =>
      /** @type {Buffer} */ (openings.get(Buffer.from(info).toString('hex'))),
  };
}

/**
 * The client of the vectors, having asked `count` times and heard all answers but the last.
 * @param {number} count
 * @param {any[]} of
 */
async function asked(count, of = exchanges) {
  const sessions = new ClientSessions(cluster, { padded: of !== exchanges, randomness: drawn(of) });
  const recipients = workers.map((/** @type {any} */ each) => {
    return { instance: each.instance, hpkeSuite: each.hpke_suite, hpkePublic: hex(each.hpke_public) };
  });
  for (let number = 0; ; number += 1) {
    const request = hex(of[number].request);
    const { sealed, pending } = await sessions.seal(request, MODEL, not_after_ms, recipients);
    const instances = workers.map((/** @type {any} */ each) => each.instance);
    const carried = buildRequest(sealed, MODEL, instances, of[number].id);
    const believed = workers.map((/** @type {any} */ each) => {
      return {
        instance: each.instance,
        result: { receiptKey: hex(each.receipt_key), earId: each.ear_id },
        token: '',
        model: MODEL,
      };
    });
    if (number === count - 1) return { carried, pending, request, workers: believed };
    await pending.open(hex(of[number].sealed_response));
  }
}

for (const [number, exchange] of exchanges.entries()) {
  test(`request ${number} comes out byte for byte`, async () => {
    const { carried } = await asked(number + 1);
    assert.equal(carried.raw_input_contents[0].toString('hex'), exchange.sealed_request);
    assert.equal(encode('ModelInferRequest', carried).toString('hex'), exchange.envelope);
  });

  test(`keys of request ${number}`, async () => {
    for (const each of exchange.recipients) {
      const sessionId = hex(each.session_id);
      assert.equal(keys.openingInfo(cluster, each.instance, sessionId).toString('hex'), each.opening_info);
      assert.equal((await keys.wrappingKey(hex(each.session_secret), sessionId)).toString('hex'), each.wrapping_key);
      const aad = await keys.wrappingAad(hex(exchange.header), each.instance, sessionId);
      assert.equal(aad.toString('hex'), each.wrapping_aad);
      const both = hex(exchange.request_key + exchange.response_seed);
      assert.equal(
        keys.wrap(hex(each.wrapping_key), hex(each.wrapping_nonce), aad, both).toString('hex'),
        each.wrapped_keys,
      );
    }
    assert.equal((await keys.transcript(hex(exchange.header), hex(exchange.tag))).toString('hex'), exchange.transcript);
  });
}

test('openings open with the keys of their workers', async () => {
  for (const [at, each] of exchanges[0].recipients.entries()) {
    const { hpke_suite, hpke_seed } = workers[at];
    const secret = await hpke.open(hpke_suite, hex(hpke_seed), hex(each.opening), hex(each.opening_info));
    assert.equal(secret.toString('hex'), each.session_secret);
  }
});

for (const number of [0, 2]) {
  test(`answer ${number} is believed`, async () => {
    const answer = hex(exchanges[number].answer);
    const { outputs, worker } = await openAnswer(answer, await asked(number + 1));
    assert.equal(worker.instance, exchanges[number].answered_by);
    assert.deepEqual(numbersOf(outputs.y), [0.5, 0.25]);
  });
}

test('version 2: a padded request comes out byte for byte, and its answer is believed', async () => {
  const [exchange] = second.exchanges;
  const sent = await asked(1, second.exchanges);
  assert.equal(encode('ModelInferRequest', sent.carried).toString('hex'), exchange.envelope);
  const { outputs } = await openAnswer(hex(exchange.answer), sent);
  assert.deepEqual(numbersOf(outputs.y), [0.5, 0.25]);
});

for (const { name, answer } of second.broken_answers) {
  test(`version 2: refused: ${name}`, async () => {
    const sent = await asked(1, second.exchanges);
    assert.equal(await reasonOf(openAnswer(hex(answer), sent)), 'seal.broken');
  });
}

test('lengths of what is padded', () => {
  for (const [size, length] of second.padded_bytes) assert.equal(paddedBytes(size), length);
  for (const size of [0, 1, 510, 511, 512, 5000]) assert.equal(strip(pad(Buffer.alloc(size, 0x80))).length, size);
});

test('an error inside the seal is told as it is', async () => {
  const { answer, failure } = exchanges[1];
  const sent = await asked(2);
  await assert.rejects(openAnswer(hex(answer), sent), {
    kind: failure.error,
    reason: failure.reason,
    message: failure.message,
  });
});

for (const { name, answer } of broken_answers) {
  test(`refused: ${name}`, async () => {
    const sent = await asked(1);
    assert.equal(await reasonOf(openAnswer(hex(answer), sent)), 'seal.broken');
  });
}

test('no changed byte of an answer goes unnoticed', async () => {
  const sent = await asked(1);
  const sound = hex(exchanges[0].answer);
  for (let at = 0; at < sound.length; at += 1) {
    const changed = Buffer.from(sound);
    changed[at] ^= 1 << (at % 8);
    await assert.rejects(async () => openAnswer(changed, sent), `byte ${at}`);
  }
});

for (const name of ['session', 'padded_session']) {
  test(`${name} of seal-v1.json, without an envelope`, () => checkSession(older[name], name !== 'session'));
}

/**
 * @param {any} session
 * @param {boolean} padded
 */
async function checkSession(session, padded) {
  const { instance, exchanges: pairs, session_secret, opening, worker_seed, key_id } = session;
  const plain = padded ? strip : (/** @type {Buffer} */ content) => content;
  for (const { request, sealed_request, answer, sealed_answer } of pairs) {
    const { fields, head, ciphertext } = split(hex(sealed_request), keys.REQUEST_CIPHERTEXT);
    const { header, recipients } = decode('SealedRequest', fields);
    const sessionId = recipients[0].session_id;
    const info = keys.openingInfo(session.cluster, instance, sessionId);
    assert.equal((await hpke.open('xwing', hex(worker_seed), hex(opening), info)).toString('hex'), session_secret);
    const both = await unwrapped(recipients[0], header, hex(session_secret));
    assert.equal(plain(await gcm('decrypt', both.subarray(0, 32), ciphertext, head)).toString('hex'), request);
    if (padded && recipients[0].opening.length > 0) assert.equal(recipients[0].key_id.toString('hex'), key_id);
    const back = split(hex(sealed_answer), keys.RESPONSE_CIPHERTEXT);
    const key = await keys.responseKey(both.subarray(32), instance, sessionId);
    const transcript = await keys.transcript(header, ciphertext.subarray(-16));
    const opened = await gcm('decrypt', key, back.ciphertext, Buffer.concat([transcript, back.head]));
    assert.equal(decode('OpenedResponse', plain(opened)).response.toString('hex'), answer);
  }
}

/** @param {any} recipient @param {Buffer} header @param {Buffer} secret */
async function unwrapped(recipient, header, secret) {
  const aad = await keys.wrappingAad(header, recipient.instance, recipient.session_id);
  const key = await keys.wrappingKey(secret, recipient.session_id);
  return Buffer.from(gcmsiv(key, keys.wrappingNonce(recipient.sequence), aad).decrypt(recipient.wrapped_keys));
}

test('what is sealed here opens here, with either suite, and for its purpose only', async () => {
  for (const { hpke_suite, hpke_seed, hpke_public } of workers) {
    const sealed = await hpke.seal(hpke_suite, hex(hpke_public), Buffer.from('secret'), Buffer.from('info'));
    assert.equal(sealed.length, hpke.SUITES[hpke_suite].encBytes + 6 + 16);
    assert.equal((await hpke.open(hpke_suite, hex(hpke_seed), sealed, Buffer.from('info'))).toString(), 'secret');
    assert.equal(await reasonOf(hpke.open(hpke_suite, hex(hpke_seed), sealed, Buffer.from('other'))), 'seal.broken');
    assert.equal(
      await reasonOf(hpke.seal(hpke_suite, hex(hpke_public).subarray(1), Buffer.of(1), Buffer.of())),
      'request.invalid',
    );
  }
});

for (const [number, { seed, pk, ct, ss }] of vectors('xwing').vectors.entries()) {
  test(`X-Wing, vector ${number} of its draft`, async () => {
    const kem = KEM_MLKEM768_X25519();
    const privateKey = await kem.DeserializePrivateKey(hex(seed), true);
    const publicKey = await kem.DeserializePublicKey(hex(pk));
    const shared = await kem.Decap(hex(ct), privateKey, publicKey);
    assert.equal(Buffer.from(shared).toString('hex'), ss);
  });
}
