/**
 * Ask a model of a mesh: believe workers, seal to them, open the answer, check its receipt.
 *
 *     const mesh = await Client.connect('127.0.0.1:8440', { trust: 'trust.json', identity: 'identities/client/main' });
 *     const answer = await mesh.infer('iris', { x: tensorOf('x', [[5.1, 3.5, 1.4, 0.2]]) });
 */

import { TrustBundle } from './bundle.mjs';
import { buildRequest, sealedResponse } from './envelope.mjs';
import { CloisterError, InvalidRequest, Rejected, SealBroken } from './errors.mjs';
import { Gateway } from './gateway.mjs';
import { verifyContent, verifyReceipt } from './receipt.mjs';
import { ClientSessions } from './session.mjs';
import { outputsOf } from './tensors.mjs';
import { believe } from './trust.mjs';
import { decode, encode } from './wire.mjs';

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
 * @typedef {{carried: any, pending: PendingResponse, request: Buffer, workers: VerifiedWorker[]}} Sent
 * @typedef {import('./session.mjs').PendingResponse} PendingResponse
 * @typedef {{outputs: Record<string, Tensor>, worker: VerifiedWorker, receipt: Buffer}} Answer `receipt`: a serialised
 *   ReceiptBundle, already checked; `cloister receipt verify` checks it again
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
    const request = encode('ModelInferRequest', {
      model_name: model.name,
      model_version: model.version,
      inputs: Object.entries(inputs).map(([name, { datatype, shape }]) => ({ name, datatype, shape })),
      raw_input_contents: Object.values(inputs).map(({ raw }) => raw),
    });
    const recipients = chosen.map(({ instance, result: { hpkeSuite, hpkePublic } }) => ({
      instance,
      hpkeSuite,
      hpkePublic,
    }));
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
 * Open the answer to a request, and check its receipt; throws what the worker answered in place of outputs.
 * @param {Buffer} answer serialised ModelInferResponse
 * @param {Sent} sent
 * @returns {Promise<Answer>}
 */
export async function openAnswer(answer, { carried, pending, request, workers }) {
  const { instance, opened } = await pending.open(sealedResponse(answer, carried));
  const worker = /** @type {VerifiedWorker} */ (workers.find((each) => each.instance === instance));
  if (opened.outcome === 'failure')
    throw new CloisterError(opened.failure.message, opened.failure.reason, opened.failure.error);
  const body = await verifyReceipt(opened.receipt, worker.result.receiptKey);
  await verifyContent(body, request, opened.response);
  const { model } = worker;
  const meant =
    body.request_id.equals(pending.requestId) &&
    body.instance === instance &&
    body.model_name === model.name &&
    body.model_version === model.version &&
    body.model_digest.equals(model.digest);
  if (!meant) throw new SealBroken();
  if (body.ear_id !== worker.result.earId) {
    throw new Rejected('the receipt names an Attestation Result that has been renewed since', 'receipt.result_unknown');
  }
  const receipt = encode('ReceiptBundle', {
    receipt: opened.receipt,
    request,
    response: opened.response,
    attestation_result: worker.token,
  });
  return { outputs: outputsOf(decode('ModelInferResponse', opened.response)), worker, receipt };
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
