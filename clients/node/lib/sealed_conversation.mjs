/**
 * Conversations: many requests to one worker over one stream, for the price of their symmetric ciphers (the client's
 * half; docs/seal-format.md, section 15). Receipts come with the end, one signature for all answers.
 */

import { expand, gcm, sha256 } from './bytes.mjs';
import { chunkIn, chunkRequest } from './envelope.mjs';
import { CloisterError, SealBroken } from './errors.mjs';
import { leafHash, levelsOf, pathOf } from './merkle.mjs';
import { pad, strip } from './padding.mjs';
import { verifyHead } from './receipt.mjs';
import { decode, encode } from './wire.mjs';

const MOST_REQUESTS = 4096;
const LAST = 2n ** 63n;

/**
 * @typedef {{name: string, version: string, digest: Buffer}} Model
 * @typedef {{requestId: Buffer, instance: string, sessionId: Buffer, seed: Buffer, transcript: Buffer, padded: boolean}} Opening
 */

export class SealedConversation {
  #subject;
  #keys;
  #terms;
  #sent = 0;
  #broken = false;
  /** @type {Map<number, Buffer>} leaves of the answers that came, by their number */
  #leaves = new Map();
  /** @type {Buffer[][]} */
  #levels = [];
  #signature = Buffer.alloc(0);

  /**
   * @param {{id: Buffer, instance: string, model: Model}} subject
   * @param {{request: Buffer, answer: Buffer, receiptIds: Buffer, padded: boolean}} keys
   * @param {any} terms ConversationTerms
   */
  constructor(subject, keys, terms) {
    this.#subject = subject;
    this.#keys = keys;
    this.#terms = terms;
    this.mostRequests = Math.min(terms.most_requests, MOST_REQUESTS);
  }

  /**
   * @param {Opening} opening of the request that opened it
   * @param {Model} model
   * @param {any} terms ConversationTerms, from the answer to it
   */
  static async of({ requestId, instance, sessionId, seed, transcript, padded }, model, terms) {
    const info = [Buffer.from('cloister conversation v1'), Buffer.from(instance), sessionId, transcript];
    const raw = await expand(seed, Buffer.concat(info), 96);
    const keys = { request: raw.subarray(0, 32), answer: raw.subarray(32, 64), receiptIds: raw.subarray(64), padded };
    return new SealedConversation({ id: requestId, instance, model }, keys, terms);
  }

  /**
   * Seal a serialised ModelInferRequest.
   * @param {Buffer} request
   * @returns {Promise<{at: Buffer, envelope: Buffer}>} its place, and the serialised ModelInferRequest around it
   */
  async seal(request) {
    if (this.#broken || this.#sent >= this.mostRequests) throw new Error('this conversation takes no more requests');
    const at = place(BigInt(this.#sent++)); // before anything is awaited: no two requests may have the same
    return { at, envelope: await this.#sealed(request, at) };
  }

  /**
   * Open the answer to a request of ours, and note its receipt.
   * @param {Buffer} at its place
   * @param {Buffer} request as it was sealed
   * @param {Buffer} raw serialised ModelInferResponse
   * @returns {Promise<any>} OpenedResponse: a `response` or a `failure`
   */
  async open(at, request, raw) {
    const opened = await this.#opened(at, raw);
    if (opened.outcome === 'failure') return opened;
    const index = opened.leaf_index;
    if (opened.outcome !== 'response' || this.#leaves.has(index) || index >= this.mostRequests) throw this.#break();
    this.#leaves.set(index, await leafHash(await this.#body(at, request, opened)));
    return opened;
  }

  /** The last chunk. */
  async close() {
    const at = place(BigInt(this.#sent) | LAST);
    const content = encode('ConversationClose', { sent: this.#sent, received: this.#leaves.size });
    return { at, envelope: await this.#sealed(content, at) };
  }

  /**
   * Open the end, and check its signature over the answers that came.
   * @param {Buffer} at the place of our last chunk
   * @param {Buffer} raw serialised ModelInferResponse
   * @param {Buffer} receiptKey the worker's, attested
   */
  async finish(at, raw, receiptKey) {
    const { outcome, end } = await this.#opened(at, raw);
    if (outcome !== 'end') throw this.#break();
    const leaves = this.#allLeaves(end);
    if (leaves.length === 0) return;
    this.#levels = await levelsOf(leaves);
    this.#signature = end.signature;
    await verifyHead(receiptKey, end.signature, leaves.length, this.#levels[this.#levels.length - 1][0]).catch(() => {
      throw this.#break();
    });
  }

  /**
   * The receipt of an answer, once the end has come: like any other.
   * @param {Buffer} at
   * @param {Buffer} request
   * @param {any} opened OpenedResponse
   * @returns {Promise<Buffer>} serialised Receipt
   */
  async receipt(at, request, opened) {
    if (this.#levels.length === 0) {
      throw new CloisterError('receipts come when the conversation ends', 'receipt.pending', 'NotReady');
    }
    return encode('Receipt', {
      body: await this.#body(at, request, opened),
      tree_size: this.#levels[0].length,
      leaf_index: opened.leaf_index,
      path: pathOf(this.#levels, opened.leaf_index),
      signature: this.#signature,
    });
  }

  /**
   * @param {Buffer} content
   * @param {Buffer} at
   */
  async #sealed(content, at) {
    const { id, instance, model } = this.#subject;
    const plaintext = this.#keys.padded ? pad(content) : content;
    const ciphertext = await gcm('encrypt', this.#keys.request, plaintext, Buffer.alloc(0), nonce(at));
    return encode('ModelInferRequest', chunkRequest(Buffer.concat([ciphertext, id, at]), model, instance));
  }

  /**
   * @param {Buffer} at
   * @param {Buffer} raw
   */
  async #opened(at, raw) {
    if (this.#broken) throw new SealBroken();
    try {
      const chunk = chunkIn(raw, this.#subject.model);
      const trailer = Buffer.concat([this.#subject.id, at]);
      if (!chunk.subarray(-trailer.length).equals(trailer)) throw new SealBroken();
      const ciphertext = chunk.subarray(0, -trailer.length);
      const plaintext = await gcm('decrypt', this.#keys.answer, ciphertext, Buffer.alloc(0), nonce(at));
      return decode('OpenedResponse', this.#keys.padded ? strip(plaintext) : plaintext);
    } catch {
      throw this.#break();
    }
  }

  /**
   * The leaves of all answers: ours, or those that came with the end where some answers did not.
   * @param {any} end ConversationEnd
   */
  #allLeaves({ answered, leaves: raw }) {
    const count = raw.length > 0 ? Math.ceil(raw.length / 32) : this.#leaves.size;
    const leaves = Array.from({ length: count }, (_, at) =>
      raw.length > 0 ? raw.subarray(32 * at, 32 * at + 32) : this.#leaves.get(at),
    );
    const counted = count === answered && count <= this.#sent && leaves.every((leaf) => leaf?.length === 32);
    const held = [...this.#leaves].every(([at, leaf]) => at < count && leaf.equals(leaves[at]));
    if (!counted || !held) throw this.#break();
    return leaves;
  }

  /**
   * @param {Buffer} at
   * @param {Buffer} request
   * @param {any} opened OpenedResponse
   */
  async #body(at, request, { response, issued_at_ms }) {
    const { instance, model } = this.#subject;
    const requestId = (await sha256(this.#keys.receiptIds, at)).subarray(0, 16);
    return encode('ReceiptBody', {
      version: 1,
      request_id: requestId,
      request_sha256: await sha256(requestId, request),
      response_sha256: await sha256(requestId, response),
      model_name: model.name,
      model_version: model.version,
      model_digest: model.digest,
      policy_digest: this.#terms.policy_digest,
      ear_id: this.#terms.ear_id,
      instance,
      issued_at_ms,
    });
  }

  #break() {
    this.#broken = true;
    return new SealBroken();
  }
}

/** @param {bigint} number */
function place(number) {
  const raw = Buffer.alloc(8);
  raw.writeBigUInt64BE(number);
  return raw;
}

/** @param {Buffer} at */
function nonce(at) {
  return Buffer.concat([Buffer.alloc(4), at]);
}
