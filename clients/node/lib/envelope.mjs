/** The envelope: an ordinary OIP message that carries a sealed one. Nothing in it is believed. */

import { SealBroken } from './errors.mjs';
import { decode, encode } from './wire.mjs';

const TENSOR = 'cloister.sealed';
const CHUNK = 'cloister.chunk';
const SEALED = { 'cloister-seal': { string_param: 'v1' } };

/**
 * A ModelInferRequest around a serialised SealedRequest.
 * @param {Buffer} sealed
 * @param {{name: string, version: string}} model
 * @param {string[]} instances the workers it is sealed to, in the order of its recipients
 * @param {string} id the caller's own
 */
export function buildRequest(sealed, model, instances, id) {
  return {
    model_name: model.name,
    model_version: model.version,
    id,
    parameters: { ...SEALED, 'cloister-workers': { string_param: instances.join(',') } },
    inputs: [{ name: TENSOR, datatype: 'UINT8', shape: [sealed.length] }],
    raw_input_contents: [sealed],
  };
}

/**
 * A ModelInferRequest around a chunk of a conversation.
 * @param {Buffer} chunk
 * @param {{name: string, version: string}} model
 * @param {string} instance
 */
export function chunkRequest(chunk, model, instance) {
  const { inputs, ...fields } = buildRequest(chunk, model, [instance], '');
  return { ...fields, inputs: [{ ...inputs[0], name: CHUNK }] };
}

/**
 * The chunk in an answer of a conversation.
 * @param {Buffer} raw serialised ModelInferResponse
 * @param {{name: string, version: string}} model
 */
export function chunkIn(raw, { name, version }) {
  return contentOf(raw, { model_name: name, model_version: version, id: '' }, CHUNK);
}

/**
 * The serialised SealedResponse in the answer to a request. There is one envelope that may be around it, byte for byte:
 * nothing in it is left to who carries it, and an answer in clear is no answer.
 * @param {Buffer} raw serialised ModelInferResponse
 * @param {{model_name: string, model_version: string, id: string}} request
 * @returns {Buffer}
 */
export function sealedResponse(raw, request) {
  return contentOf(raw, request, TENSOR);
}

/**
 * @param {Buffer} raw
 * @param {{model_name: string, model_version: string, id: string}} request
 * @param {string} tensor
 */
function contentOf(raw, { model_name, model_version, id }, tensor) {
  const sealed = onlyContent(raw);
  const expected = {
    model_name,
    model_version,
    id,
    parameters: SEALED,
    outputs: [{ name: tensor, datatype: 'UINT8', shape: [sealed.length] }],
    raw_output_contents: [sealed],
  };
  if (!encode('ModelInferResponse', expected).equals(raw)) throw new SealBroken();
  return sealed;
}

/** @param {Buffer} raw @returns {Buffer} */
function onlyContent(raw) {
  try {
    return decode('ModelInferResponse', raw).raw_output_contents[0] ?? Buffer.alloc(0);
  } catch {
    throw new SealBroken();
  }
}
