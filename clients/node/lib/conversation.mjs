/** Many requests to one worker over one stream, cheap; their receipts come when it ends. */

import { failureOf, keptReceipt, requestOf } from './exchange.mjs';
import { outputsOf } from './tensors.mjs';
import { decode } from './wire.mjs';

/**
 * @typedef {import('./trust.mjs').VerifiedWorker} VerifiedWorker
 * @typedef {import('./tensors.mjs').Tensor} Tensor
 */

/** Many requests to one worker; each may be asked before the one before it is answered. */
export class Conversation {
  #held;
  #stream;
  /** @type {Promise<unknown>} the requests leave in the order in which they were sealed */
  #order = Promise.resolve();
  /** @type {{at: Buffer, request: Buffer, opened: any}[]} */
  #answered = [];

  /**
   * @param {import('./sealed_conversation.mjs').SealedConversation} held
   * @param {VerifiedWorker} worker
   * @param {import('./gateway.mjs').Stream} stream
   */
  constructor(held, worker, stream) {
    this.#held = held;
    this.worker = worker;
    this.#stream = stream;
  }

  /**
   * @param {Record<string, Tensor>} inputs
   * @returns {Promise<Record<string, Tensor>>} the worker's answer; proved only once the conversation has ended
   */
  async infer(inputs) {
    const request = requestOf(this.worker.model, inputs);
    const { at, answer } = await this.#asked(() => this.#held.seal(request));
    const opened = await this.#held.open(at, request, await answer);
    if (opened.outcome === 'failure') throw failureOf(opened);
    this.#answered.push({ at, request, opened });
    return outputsOf(decode('ModelInferResponse', opened.response));
  }

  /**
   * End it, once all answers have come.
   * @returns {Promise<Buffer[]>} a serialised ReceiptBundle of each answer, in the order in which they were asked
   */
  async end() {
    const { at, answer } = await this.#asked(() => this.#held.close());
    await this.#held.finish(at, await answer, this.worker.result.receiptKey);
    this.#stream.close();
    this.#answered.sort((one, other) => Buffer.compare(one.at, other.at)); // opened in any order, by a pool of threads
    return Promise.all(
      this.#answered.map(async ({ at: place, request, opened }) => {
        const receipt = decode('Receipt', await this.#held.receipt(place, request, opened));
        return keptReceipt(receipt, request, opened.response, this.worker);
      }),
    );
  }

  /** @param {() => Promise<{at: Buffer, envelope: Buffer}>} seal */
  async #asked(seal) {
    const asked = this.#order.then(async () => {
      const { at, envelope } = await seal();
      return { at, answer: this.#stream.ask(envelope) }; // inside an object: the next need not wait for it
    });
    this.#order = asked.catch(() => {});
    return asked;
  }
}
