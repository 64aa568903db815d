/** Numbers to the raw contents of a tensor (little endian, row by row), and back. */

import { InvalidRequest, SealBroken } from './errors.mjs';

/** @type {Record<string, {bytes: number, read: string, write: string, big?: boolean}>} */
const DATATYPES = {
  UINT8: { bytes: 1, read: 'readUInt8', write: 'writeUInt8' },
  UINT16: { bytes: 2, read: 'readUInt16LE', write: 'writeUInt16LE' },
  UINT32: { bytes: 4, read: 'readUInt32LE', write: 'writeUInt32LE' },
  UINT64: { bytes: 8, read: 'readBigUInt64LE', write: 'writeBigUInt64LE', big: true },
  INT8: { bytes: 1, read: 'readInt8', write: 'writeInt8' },
  INT16: { bytes: 2, read: 'readInt16LE', write: 'writeInt16LE' },
  INT32: { bytes: 4, read: 'readInt32LE', write: 'writeInt32LE' },
  INT64: { bytes: 8, read: 'readBigInt64LE', write: 'writeBigInt64LE', big: true },
  FP32: { bytes: 4, read: 'readFloatLE', write: 'writeFloatLE' },
  FP64: { bytes: 8, read: 'readDoubleLE', write: 'writeDoubleLE' },
};

/**
 * @typedef {{datatype: string, shape: number[], raw: Buffer}} Tensor
 */

/**
 * A tensor of nested arrays of numbers.
 * @param {string} name
 * @param {unknown} values
 * @param {string} [datatype]
 * @returns {Tensor}
 */
export function tensorOf(name, values, datatype = 'FP32') {
  const kind = DATATYPES[datatype];
  if (kind === undefined)
    throw new InvalidRequest(`input '${name}': ${datatype} is none of ${Object.keys(DATATYPES).join(', ')}`);
  const shape = shapeOf(values);
  const flat = Array.isArray(values) ? values.flat(Infinity) : [values];
  if (
    flat.length !== shape.reduce((count, size) => count * size, 1) ||
    !flat.every((each) => typeof each === 'number')
  ) {
    throw new InvalidRequest(`input '${name}': not numbers in rows of equal length`);
  }
  const raw = Buffer.alloc(flat.length * kind.bytes);
  try {
    flat.forEach((each, at) => /** @type {any} */ (raw)[kind.write](kind.big ? BigInt(each) : each, at * kind.bytes));
  } catch {
    throw new InvalidRequest(`input '${name}': a number does not fit ${datatype}`);
  }
  return { datatype, shape, raw };
}

/** The numbers of a tensor, in one row. @param {Tensor} tensor @returns {(number | bigint)[]} */
export function numbersOf({ datatype, raw }) {
  const kind = DATATYPES[datatype];
  if (kind === undefined) throw new InvalidRequest(`this client prints no ${datatype}; take 'raw'`);
  return Array.from({ length: raw.length / kind.bytes }, (_, at) =>
    /** @type {any} */ (raw)[kind.read](at * kind.bytes),
  );
}

/** The tensors of a ModelInferResponse, by name. @param {any} response @returns {Record<string, Tensor>} */
export function outputsOf(response) {
  if (response.outputs.length !== response.raw_output_contents.length) throw new SealBroken();
  const entries = response.outputs.map((/** @type {any} */ output, /** @type {number} */ at) => {
    return [output.name, { datatype: output.datatype, shape: output.shape, raw: response.raw_output_contents[at] }];
  });
  return Object.fromEntries(entries);
}

/** @param {unknown} values @returns {number[]} */
function shapeOf(values) {
  return Array.isArray(values) ? [values.length, ...(values.length > 0 ? shapeOf(values[0]) : [])] : [];
}
