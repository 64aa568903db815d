// What an inference request or response holds, in a few words: name, datatype, shape, the first values where they are
// raw numbers (Open Inference Protocol v2). Only read once the receipt is known to be about exactly these bytes.

import { Message } from "./protobuf.mjs";

/** @typedef {import("./bytes.mjs").Bytes} Bytes */

const SHOWN = 6;
/** @type {Record<string, [number, (view: DataView, at: number) => number | bigint]>} */
const NUMBERS = {
  FP32: [4, (view, at) => Number(view.getFloat32(at, true).toPrecision(6))],
  FP64: [8, (view, at) => Number(view.getFloat64(at, true).toPrecision(9))],
  INT8: [1, (view, at) => view.getInt8(at)],
  INT16: [2, (view, at) => view.getInt16(at, true)],
  INT32: [4, (view, at) => view.getInt32(at, true)],
  INT64: [8, (view, at) => view.getBigInt64(at, true)],
  UINT8: [1, (view, at) => view.getUint8(at)],
  UINT16: [2, (view, at) => view.getUint16(at, true)],
  UINT32: [4, (view, at) => view.getUint32(at, true)],
  UINT64: [8, (view, at) => view.getBigUint64(at, true)],
};

/** @param {Bytes} message @param {"asked" | "answered"} which @returns {{name: string, words: string}[]} */
export function tensors(message, which) {
  const [listed, raw] = which === "asked" ? [5, 7] : [5, 6];
  const whole = new Message(message);
  const contents = whole.all(raw);
  return whole.all(listed).map((each, at) => {
    const tensor = new Message(each);
    const datatype = tensor.string(2);
    const shape = tensor.fields.filter((field) => field.number === 3).flatMap((field) => dimensions(field.value));
    const values = contents[at] ? firstValues(datatype, contents[at]) : "";
    return { name: tensor.string(1), words: `${datatype} [${shape.join(", ")}]${values}` };
  });
}

/** Packed or not. @param {Bytes | bigint} value @returns {bigint[]} */
function dimensions(value) {
  if (typeof value === "bigint") return [value];
  const found = [];
  let [number, shift] = [0n, 0n];
  for (const byte of value) {
    number |= BigInt(byte & 0x7f) << shift;
    shift += 7n;
    if (byte < 0x80) {
      found.push(BigInt.asIntN(64, number));
      [number, shift] = [0n, 0n];
    }
  }
  return found;
}

/** @param {string} datatype @param {Bytes} raw */
function firstValues(datatype, raw) {
  if (!(datatype in NUMBERS)) return `, ${raw.length} bytes`;
  const [size, read] = NUMBERS[datatype];
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const count = Math.floor(raw.length / size);
  const shown = Array.from({ length: Math.min(count, SHOWN) }, (_, at) => read(view, at * size));
  return `: ${shown.join(", ")}${count > SHOWN ? ", …" : ""}`;
}
