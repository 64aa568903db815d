/**
 * Sealed sessions, the client's half. A session is a secret shared with one worker; it reaches the worker by HPKE in an
 * opening, which rides along until the worker has answered once. Each request has a key of its own, wrapped for every
 * worker that may answer.
 */

import { gcm } from './bytes.mjs';
import { InvalidRequest, SealBroken } from './errors.mjs';
import { head, split } from './framing.mjs';
import * as hpke from './hpke.mjs';
import * as keys from './keys.mjs';
import { pad, strip } from './padding.mjs';
import { decode, encode } from './wire.mjs';

const MAX_SESSIONS = 1024;
const MAX_SEQUENCE = 2 ** 32;

/**
 * @typedef {{instance: string, hpkeSuite: string, hpkePublic: Buffer}} RecipientKey
 * @typedef {{name: string, version: string, digest: Buffer}} Model
 * @typedef {{random: (length: number) => Buffer, seal: typeof hpke.seal}} Randomness
 */

/** @type {Randomness} */
const RANDOMNESS = {
  random: (length) => Buffer.from(globalThis.crypto.getRandomValues(new Uint8Array(length))),
  seal: hpke.seal,
};

export class ClientSessions {
  /** @type {Map<string, Session>} */
  #sessions = new Map();
  #cluster;
  #padded;
  #randomness;

  /**
   * @param {string} cluster trust domain of the workers
   * @param {{padded?: boolean, randomness?: Randomness}} [options] `padded`: hide lengths, which workers of version 1 of
   *   sealing cannot read; only vectors hand in other `randomness`
   */
  constructor(cluster, { padded = true, randomness = RANDOMNESS } = {}) {
    this.#cluster = cluster;
    this.#padded = padded;
    this.#randomness = randomness;
  }

  /**
   * Seal a serialised ModelInferRequest to the workers that may answer it.
   * @param {Buffer} request
   * @param {Model} model
   * @param {number} notAfterMs Unix time; at most ten minutes ahead
   * @param {RecipientKey[]} recipients 1 to 16 verified workers, each once
   * @param {{conversation?: boolean}} [options] `conversation`: opens one, with one worker; then the request is empty
   * @returns {Promise<{sealed: Buffer, pending: PendingResponse}>} serialised SealedRequest, and what opens its answer
   */
  async seal(request, model, notAfterMs, recipients, { conversation = false } = {}) {
    const count = new Set(recipients.map((each) => each.instance)).size;
    if (count < 1 || count > keys.MAX_RECIPIENTS || count !== recipients.length) {
      throw new InvalidRequest(`a request is sealed to 1 to ${keys.MAX_RECIPIENTS} workers, each once`);
    }
    const padded = this.#padded;
    const requestId = this.#randomness.random(16);
    const both = this.#randomness.random(64);
    const header = encode('RequestHeader', {
      version: padded || conversation ? keys.LATER_VERSION : keys.VERSION,
      request_id: requestId,
      model_name: model.name,
      model_version: model.version,
      model_digest: model.digest,
      not_after_ms: notAfterMs,
      padding: padded ? keys.PADDED : 0,
      conversation,
    });
    const sessions = recipients.map((each) => this.#session(each));
    const wrapped = await Promise.all(sessions.map((session) => session.wrap(both, header)));
    const fields = encode('SealedRequest', { header, recipients: wrapped });
    const content = padded ? pad(request) : request;
    const before = head(fields, keys.REQUEST_CIPHERTEXT, content.length + keys.TAG_BYTES);
    const ciphertext = await gcm('encrypt', both.subarray(0, 32), content, before);
    const transcript = await keys.transcript(header, ciphertext.subarray(-keys.TAG_BYTES));
    const pending = new PendingResponse(this, requestId, sessions, {
      seed: both.subarray(32),
      transcript,
      padded,
    });
    return { sealed: Buffer.concat([before, ciphertext]), pending };
  }

  /** End a session; a newer one with the same worker stays. @param {Session} session */
  forget(session) {
    if (this.#sessions.get(session.recipient.instance) === session) this.#sessions.delete(session.recipient.instance);
  }

  /** @param {RecipientKey} recipient @returns {Session} */
  #session(recipient) {
    const known = this.#sessions.get(recipient.instance);
    const session = known?.serves(recipient)
      ? known
      : new Session(this.#cluster, recipient, this.#padded, this.#randomness);
    this.#sessions.delete(recipient.instance);
    this.#sessions.set(recipient.instance, session); // last: the first is the one unused for longest
    if (this.#sessions.size > MAX_SESSIONS)
      this.#sessions.delete(/** @type {string} */ (this.#sessions.keys().next().value));
    return session;
  }
}

export class PendingResponse {
  #owner;
  #sessions;
  #keys;

  /**
   * @param {ClientSessions} owner
   * @param {Buffer} requestId as in the header, and in the receipt of the answer
   * @param {Session[]} sessions
   * @param {{seed: Buffer, transcript: Buffer, padded: boolean}} keys
   */
  constructor(owner, requestId, sessions, keys) {
    this.#owner = owner;
    this.requestId = requestId;
    this.#sessions = sessions;
    this.#keys = keys;
  }

  /**
   * Open a serialised SealedResponse to this request, from one of the workers it was sealed to.
   * @param {Buffer} sealed
   * @returns {Promise<{instance: string, opened: any}>} who answered, and the OpenedResponse
   */
  async open(sealed) {
    const { fields, head: before, ciphertext } = split(sealed, keys.RESPONSE_CIPHERTEXT);
    try {
      const { instance } = decode('SealedResponse', fields);
      const session = this.#sessions.find((each) => each.recipient.instance === instance);
      if (session === undefined) throw new SealBroken();
      const { seed, transcript, padded } = this.#keys;
      const key = await keys.responseKey(seed, instance, session.sessionId);
      const plaintext = await gcm('decrypt', key, ciphertext, Buffer.concat([transcript, before]));
      const opened = decode('OpenedResponse', padded ? strip(plaintext) : plaintext);
      if (opened.outcome === undefined) throw new SealBroken();
      session.answered = true;
      return { instance, opened };
    } catch {
      throw new SealBroken();
    }
  }

  /**
   * What the keys of a conversation come from that this request opened.
   * @param {string} instance
   * @returns {import('./sealed_conversation.mjs').Opening}
   */
  openingWith(instance) {
    const session = /** @type {Session} */ (this.#sessions.find((each) => each.recipient.instance === instance));
    const { sessionId } = session;
    return { requestId: this.requestId, instance, sessionId, ...this.#keys };
  }

  /** A worker does not know its session any more: open new ones with all that the request was sealed to. */
  forgetSessions() {
    for (const session of this.#sessions) this.#owner.forget(session);
  }
}

/** One secret shared with one worker; makes its own wrapping nonces by counting. */
class Session {
  #next = 0;
  #keyId;
  #opening;
  #wrapping;

  /**
   * @param {string} cluster
   * @param {RecipientKey} recipient
   * @param {boolean} named whether to say which of the worker's keys the opening is to
   * @param {Randomness} randomness
   */
  constructor(cluster, recipient, named, randomness) {
    const secret = randomness.random(32);
    this.recipient = recipient;
    this.sessionId = randomness.random(16);
    this.answered = false;
    const info = keys.openingInfo(cluster, recipient.instance, this.sessionId);
    this.#keyId = named ? keys.keyId(recipient.hpkeSuite, recipient.hpkePublic) : Buffer.alloc(0);
    this.#opening = randomness.seal(recipient.hpkeSuite, recipient.hpkePublic, secret, info);
    this.#wrapping = keys.wrappingKey(secret, this.sessionId);
  }

  /** @param {RecipientKey} recipient */
  serves(recipient) {
    const { hpkeSuite, hpkePublic } = this.recipient;
    return hpkeSuite === recipient.hpkeSuite && hpkePublic.equals(recipient.hpkePublic) && this.#next < MAX_SEQUENCE;
  }

  /** @param {Buffer} both @param {Buffer} header @returns {Promise<object>} a Recipient */
  async wrap(both, header) {
    const sequence = this.#next++; // before anything is awaited: no two requests may have the same
    const { instance } = this.recipient;
    const [keyId, opening, key] = await Promise.all([this.#keyId, this.#opening, this.#wrapping]);
    const aad = await keys.wrappingAad(header, instance, this.sessionId);
    return {
      instance,
      session_id: this.sessionId,
      sequence,
      wrapped_keys: keys.wrap(key, keys.wrappingNonce(sequence), aad, both),
      ...(this.answered ? {} : { opening, key_id: keyId }),
    };
  }
}
