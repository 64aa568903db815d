/** Receipts: which enclave answered what, with which model (docs/seal-format.md, "Receipts"). */

import { context, ed25519Holds, sha256 } from './bytes.mjs';
import { SealBroken } from './errors.mjs';
import { leafHash, rootOfPath } from './merkle.mjs';
import { decode, decodeExactly } from './wire.mjs';

const MAX_TREE = 65536;
const MAX_PATH = 17;

/**
 * The body of a receipt that the holder of the attested receipt key signed.
 * @param {any} receipt Receipt
 * @param {Buffer} receiptKey 32 bytes, from `cnf` of the Attestation Result
 * @returns {Promise<any>} ReceiptBody
 */
export async function verifyReceipt(receipt, receiptKey) {
  if (receipt === null || receipt.tree_size < 1 || receipt.tree_size > MAX_TREE || receipt.path.length > MAX_PATH) {
    throw new SealBroken();
  }
  const leaf = await leafHash(receipt.body);
  const head = await rootOfPath(leaf, receipt.leaf_index, receipt.tree_size, receipt.path);
  await verifyHead(receiptKey, receipt.signature, receipt.tree_size, head);
  const body = parsed('ReceiptBody', receipt.body);
  if (body.version !== 1) throw new SealBroken();
  return body;
}

/**
 * Check the signature over a tree head.
 * @param {Buffer} receiptKey
 * @param {Buffer} signature
 * @param {number} treeSize
 * @param {Buffer} head
 */
export async function verifyHead(receiptKey, signature, treeSize, head) {
  const signed = context('cloister receipts v1', BigInt(treeSize), head);
  if (!(await ed25519Holds(receiptKey, signature, signed))) throw new SealBroken();
}

/**
 * A serialised Receipt, or ReceiptBundle, in which nothing rides along that nobody signed.
 * @param {string} name
 * @param {Uint8Array} raw
 */
export function readExactly(name, raw) {
  try {
    return decodeExactly(name, raw);
  } catch {
    throw new SealBroken();
  }
}

/** @param {any} body ReceiptBody @param {Uint8Array} request @param {Uint8Array} response both as they were sealed */
export async function verifyContent(body, request, response) {
  const hashes = [await sha256(body.request_id, request), await sha256(body.request_id, response)];
  if (!hashes[0].equals(body.request_sha256) || !hashes[1].equals(body.response_sha256)) throw new SealBroken();
}

/**
 * Check what a client kept, against the Attestation Result it kept with it, once that is believed.
 * @param {any} bundle ReceiptBundle
 * @param {{receiptKey: Buffer, instance: string, earId: string}} result
 */
export async function verifyBundle(bundle, result) {
  const body = await verifyReceipt(bundle.receipt, result.receiptKey);
  if (body.instance !== result.instance || body.ear_id !== result.earId) throw new SealBroken();
  await verifyContent(body, bundle.request, bundle.response);
  return body;
}

/** @param {string} name @param {Uint8Array} raw */
function parsed(name, raw) {
  try {
    return decode(name, raw);
  } catch {
    throw new SealBroken();
  }
}
