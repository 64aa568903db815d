/**
 * Ask a model of a mesh: believe workers, seal to them, open the answer, check its receipt.
 *
 *     const mesh = await Client.connect('127.0.0.1:8440', { trust: 'trust.json', identity: 'identities/client/main' });
 *     const answer = await mesh.infer('iris', { x: tensorOf('x', [[5.1, 3.5, 1.4, 0.2]]) });
 */

import { TrustBundle } from './bundle.mjs';
import { Conversation } from './conversation.mjs';
import { buildRequest, sealedResponse } from './envelope.mjs';
import { CloisterError, InvalidRequest, SealBroken } from './errors.mjs';
import { checkResult, failureOf, openAnswer, recipientOf, requestOf } from './exchange.mjs';
import { Gateway } from './gateway.mjs';
import { SealedConversation } from './sealed_conversation.mjs';
import { ClientSessions } from './session.mjs';
import { believe } from './trust.mjs';
import { encode } from './wire.mjs';

export { TrustBundle } from './bundle.mjs';
export { numbersOf, tensorOf } from './tensors.mjs';

const MAX_OFFERED = 256;
const MAX_SEALED_TO = 4;
const MAX_LIFE_MS = 590_000; // a worker refuses what is valid for more than ten minutes
const ATTEMPTS = 3;
/** What a fresh list and a request sealed afresh answer; an inference changes nothing, so it may be asked again. */
const STALE = new Set(['session.unknown', 'seal.stale', 'key.unsettled', 'model.changed', 'receipt.result_unknown']);

/**
 * @typedef {import('./trust.mjs').VerifiedWorker} VerifiedWorker
 * @typedef {import('./tensors.mjs').Tensor} Tensor
 * @typedef {import('./exchange.mjs').Answer} Answer
 */

export class Client {
  #gateway;
  #trust;
  #sessions;

  /**
   * @param {Gateway} gateway
   * @param {TrustBundle} trust
   * @param {boolean} padded
   */
  constructor(gateway, trust, padded) {
    if (!padded && trust.floors.sealVersion > 1) {
      throw new InvalidRequest("the trust bundle's floors ask for padding");
    }
    this.#gateway = gateway;
    this.#trust = trust;
    this.#sessions = new ClientSessions(trust.cluster, { padded });
  }

  /**
   * @param {string} gateway host:port
   * @param {{trust: string | TrustBundle, identity: string, padded?: boolean}} how bundle or its file; folder of an
   *   identity; whether to hide lengths, which is not negotiated: workers that cannot read it refuse it
   */
  static async connect(gateway, { trust, identity, padded = true }) {
    const bundle = typeof trust === 'string' ? await TrustBundle.read(trust) : trust;
    return new Client(await Gateway.connect(gateway, identity, bundle.cluster), bundle, padded);
  }

  close() {
    this.#gateway.close();
  }

  /**
   * @param {string} model
   * @param {Record<string, Tensor>} inputs
   * @param {{version?: string, timeoutMs?: number}} [options] `version`: the only one that may answer
   * @returns {Promise<Answer>}
   */
  async infer(model, inputs, { version = '', timeoutMs = 30_000 } = {}) {
    const untilMs = Date.now() + timeoutMs;
    for (let attempt = 1; ; attempt += 1) {
      const workers = await this.#believed(model, version, untilMs);
      try {
        return await this.#ask(workers, inputs, untilMs);
      } catch (error) {
        if (!(error instanceof CloisterError && STALE.has(error.reason)) || attempt === ATTEMPTS) throw error;
      }
    }
  }

  /**
   * A conversation with one worker: many requests over one stream, cheap, with receipts when it ends.
   * @param {string} model
   * @param {{version?: string, timeoutMs?: number}} [options] `timeoutMs`: for all of it; at most 590 s
   * @returns {Promise<Conversation>}
   */
  async converse(model, { version = '', timeoutMs = 60_000 } = {}) {
    const [worker] = sample(await this.#believed(model, version, Date.now() + timeoutMs), 1);
    const untilMs = Math.min(Date.now() + Math.min(timeoutMs, MAX_LIFE_MS), worker.result.expiresAt * 1000);
    const stream = this.#gateway.stream(untilMs);
    try {
      return new Conversation(await this.#open(worker, stream, untilMs), worker, stream);
    } catch (error) {
      stream.close();
      throw error;
    }
  }

  /**
   * @param {VerifiedWorker} worker
   * @param {import('./gateway.mjs').Stream} stream
   * @param {number} untilMs
   */
  async #open(worker, stream, untilMs) {
    const { instance, model } = worker;
    const opening = { conversation: true };
    const { sealed, pending } = await this.#sessions.seal(
      Buffer.alloc(0),
      model,
      untilMs,
      [recipientOf(worker)],
      opening,
    );
    const carried = buildRequest(sealed, model, [instance], '');
    const answer = await stream.ask(encode('ModelInferRequest', carried)).catch((error) => {
      if (error.reason === 'session.unknown') pending.forgetSessions();
      throw error;
    });
    const { opened } = await pending.open(sealedResponse(answer, carried));
    if (opened.outcome === 'failure') throw failureOf(opened);
    if (opened.outcome !== 'terms') throw new SealBroken();
    checkResult(opened.terms.ear_id, worker);
    return SealedConversation.of(pending.openingWith(instance), model, opened.terms);
  }

  /**
   * The workers of the highest version that believed workers serve, of those asked for.
   * @param {string} model @param {string} version @param {number} untilMs @returns {Promise<VerifiedWorker[]>}
   */
  async #believed(model, version, untilMs) {
    const offered = await this.#gateway.listWorkers(model, version, untilMs);
    await this.#trust.learn(offered.key_set).catch(() => {}); // a set that its signers did not sign changes nothing
    const judged = await Promise.allSettled(
      offered.workers
        .slice(0, MAX_OFFERED)
        .map((/** @type {any} */ each) => believe(each, model, this.#trust, Date.now() / 1000)),
    );
    /** @type {VerifiedWorker[]} */
    const all = judged.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
    const refused = judged.find((each) => each.status === 'rejected');
    if (all.length === 0 && refused) throw refused.reason;
    const wanted = all.filter((each) => !/^\d+$/.test(version) || each.model.version === version);
    const [best] = wanted.toSorted((a, b) => Number(b.model.version) - Number(a.model.version));
    if (best === undefined)
      throw new CloisterError(`no believed worker serves '${model}'`, 'model.unknown', 'NotFound');
    const { version: chosen, digest } = best.model;
    return wanted.filter((each) => each.model.version === chosen && each.model.digest.equals(digest));
  }

  /**
   * @param {VerifiedWorker[]} workers
   * @param {Record<string, Tensor>} inputs
   * @param {number} untilMs
   * @returns {Promise<Answer>}
   */
  async #ask(workers, inputs, untilMs) {
    const chosen = sample(workers, MAX_SEALED_TO);
    const { model } = chosen[0];
    const request = requestOf(model, inputs);
    const recipients = chosen.map(recipientOf);
    const notAfterMs = Math.min(untilMs, Date.now() + MAX_LIFE_MS);
    const { sealed, pending } = await this.#sessions.seal(request, model, notAfterMs, recipients);
    const carried = buildRequest(
      sealed,
      model,
      chosen.map((each) => each.instance),
      '',
    );
    try {
      return await openAnswer(await this.#gateway.infer(carried, untilMs), {
        carried,
        pending,
        request,
        workers: chosen,
      });
    } catch (error) {
      if (error instanceof CloisterError && error.reason === 'session.unknown') pending.forgetSessions();
      throw error;
    }
  }
}

/**
 * Some of them, in an order of chance: it spreads load, and hides nothing.
 * @template T
 * @param {T[]} all
 * @param {number} count
 */
function sample(all, count) {
  if (all.length === 0) throw new InvalidRequest('nobody to seal to');
  return all
    .map((each) => /** @type {[number, T]} */ ([Math.random(), each]))
    .sort(([a], [b]) => a - b)
    .slice(0, count)
    .map(([, each]) => each);
}
