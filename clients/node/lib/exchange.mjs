/** One request and its answer: what is sealed, and what is checked before an answer is believed. */

import { sealedResponse } from './envelope.mjs';
import { CloisterError, Rejected, SealBroken } from './errors.mjs';
import { verifyContent, verifyReceipt } from './receipt.mjs';
import { outputsOf } from './tensors.mjs';
import { decode, encode } from './wire.mjs';

/**
 * @typedef {import('./trust.mjs').VerifiedWorker} VerifiedWorker
 * @typedef {import('./tensors.mjs').Tensor} Tensor
 * @typedef {import('./session.mjs').PendingResponse} PendingResponse
 * @typedef {{carried: any, pending: PendingResponse, request: Buffer, workers: VerifiedWorker[]}} Sent
 * @typedef {{outputs: Record<string, Tensor>, worker: VerifiedWorker, receipt: Buffer}} Answer `receipt`: a serialised
 *   ReceiptBundle, already checked; `cloister receipt verify` checks it again
 */

/**
 * Open the answer to a request, and check its receipt; throws what the worker answered in place of outputs.
 * @param {Buffer} answer serialised ModelInferResponse
 * @param {Sent} sent
 * @returns {Promise<Answer>}
 */
export async function openAnswer(answer, { carried, pending, request, workers }) {
  const { instance, opened } = await pending.open(sealedResponse(answer, carried));
  const worker = /** @type {VerifiedWorker} */ (workers.find((each) => each.instance === instance));
  if (opened.outcome === 'failure') throw failureOf(opened);
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
  checkResult(body.ear_id, worker);
  const receipt = keptReceipt(opened.receipt, request, opened.response, worker);
  return { outputs: outputsOf(decode('ModelInferResponse', opened.response)), worker, receipt };
}

/**
 * @param {import('./trust.mjs').VerifiedWorker['model']} model
 * @param {Record<string, Tensor>} inputs
 */
export function requestOf(model, inputs) {
  return encode('ModelInferRequest', {
    model_name: model.name,
    model_version: model.version,
    inputs: Object.entries(inputs).map(([name, { datatype, shape }]) => ({ name, datatype, shape })),
    raw_input_contents: Object.values(inputs).map(({ raw }) => raw),
  });
}

/** @param {VerifiedWorker} worker */
export function recipientOf({ instance, result: { hpkeSuite, hpkePublic } }) {
  return { instance, hpkeSuite, hpkePublic };
}

/** @param {any} opened OpenedResponse */
export function failureOf({ failure: { message, reason, error } }) {
  return new CloisterError(message, reason, error);
}

/**
 * @param {string} earId that a receipt, or the terms of a conversation, names
 * @param {VerifiedWorker} worker
 */
export function checkResult(earId, worker) {
  if (earId !== worker.result.earId) {
    throw new Rejected('the receipt names an Attestation Result that has been renewed since', 'receipt.result_unknown');
  }
}

/**
 * @param {any} receipt
 * @param {Buffer} request
 * @param {Buffer} response
 * @param {VerifiedWorker} worker
 */
export function keptReceipt(receipt, request, response, { token }) {
  return encode('ReceiptBundle', { receipt, request, response, attestation_result: token });
}
