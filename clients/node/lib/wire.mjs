/** The messages of protos/, by name: to bytes, and back. */

import { fileURLToPath } from 'node:url';

import protoLoader from '@grpc/proto-loader';

const PROTOS = fileURLToPath(new URL('../../../protos', import.meta.url));
const OPTIONS = { keepCase: true, longs: Number, defaults: true, oneofs: true };

export const definitions = protoLoader.loadSync(
  ['cloister/api/v1/gateway.proto', 'cloister/api/v1/seal.proto', 'cloister/api/oip/inference.proto'],
  { ...OPTIONS, includeDirs: [PROTOS] },
);

// Of google/rpc/status.proto and error_details.proto, what a gateway says of an error.
const rpc = protoLoader.fromJSON(
  {
    nested: {
      // ModelStreamInferResponse with its answer as it came.
      StreamItem: {
        fields: { error_message: { type: 'string', id: 1 }, infer_response: { type: 'bytes', id: 2 } },
      },
      Any: { fields: { type_url: { type: 'string', id: 1 }, value: { type: 'bytes', id: 2 } } },
      Status: { fields: { details: { rule: 'repeated', type: 'Any', id: 3 } } },
      ErrorInfo: {
        fields: {
          reason: { type: 'string', id: 1 },
          domain: { type: 'string', id: 2 },
          metadata: /** @type {any} */ ({ keyType: 'string', type: 'string', id: 3 }),
        },
      },
    },
  },
  OPTIONS,
);

/** @param {string} name @returns {{serialize: (value: object) => Buffer, deserialize: (raw: Buffer) => any}} */
function message(name) {
  const found = definitions[`cloister.api.v1.${name}`] ?? definitions[`inference.${name}`] ?? rpc[name];
  return /** @type {any} */ (found);
}

/**
 * Serialise; fields are written by number, and those at their default value left out.
 * @param {string} name
 * @param {object} value
 */
export function encode(name, value) {
  return message(name).serialize(sparse(value));
}

/** Parse; throws for what is no such message. @param {string} name @param {Uint8Array} raw */
export function decode(name, raw) {
  return message(name).deserialize(Buffer.from(raw));
}

/**
 * Parse what must hold nothing but known fields, each once and in order.
 * @param {string} name
 * @param {Uint8Array} raw
 */
export function decodeExactly(name, raw) {
  const value = decode(name, raw);
  if (!encode(name, value).equals(raw)) throw new Error('fields that nobody knows, or out of order');
  return value;
}

/** @param {any} value @returns {any} */
function sparse(value) {
  if (Array.isArray(value)) return value.map((each) => sparse(each));
  if (value === null || typeof value !== 'object' || value instanceof Uint8Array) return value;
  const kept = Object.entries(value).filter(
    ([, each]) => each !== 0 && each !== false && each !== '' && each !== null && each?.length !== 0,
  );
  return Object.fromEntries(kept.map(([name, each]) => [name, sparse(each)]));
}
