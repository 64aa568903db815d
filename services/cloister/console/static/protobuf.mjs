// As much of Protocol Buffers' wire format as receipts are written in (https://protobuf.dev/programming-guides/encoding).

/** @typedef {import("./bytes.mjs").Bytes} Bytes */

/**
 * The fields of one message, in their order.
 * @param {Bytes} raw
 * @returns {{number: number, value: Bytes | bigint}[]}
 */
export function fields(raw) {
  const found = [];
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      if (at >= raw.length) throw new Error("a message is cut off");
      const byte = raw[at++];
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new Error("a number has too many bytes");
  };
  const take = (/** @type {number} */ size) => {
    if (size > raw.length - at) throw new Error("a message is cut off");
    at += size;
    return raw.subarray(at - size, at);
  };
  while (at < raw.length) {
    const tag = varint();
    const number = Number(tag >> 3n);
    if (number < 1 || number > 0x1fffffff) throw new Error("a field has no number");
    if ((tag & 7n) === 0n) found.push({ number, value: varint() });
    else if ((tag & 7n) === 1n) found.push({ number, value: take(8) });
    else if ((tag & 7n) === 2n) found.push({ number, value: take(Number(varint())) });
    else if ((tag & 7n) === 5n) found.push({ number, value: take(4) });
    else throw new Error("a field is of a kind that nobody writes any more");
  }
  return found;
}

/** One message with named members; the last one counts, as everywhere in Protocol Buffers. */
export class Message {
  /** @param {Bytes} raw */
  constructor(raw) {
    this.fields = fields(raw);
  }

  /** @param {number} number @returns {Bytes} Empty where it is not there. */
  bytes(number) {
    const found = this.fields.findLast((field) => field.number === number)?.value ?? new Uint8Array();
    if (typeof found === "bigint") throw new Error("a field is of another kind than it should be");
    return found;
  }

  /** @param {number} number @returns {Bytes[]} */
  all(number) {
    return this.fields.filter((field) => field.number === number).map((field) => /** @type {Bytes} */ (field.value));
  }

  /** @param {number} number @returns {bigint} 0 where it is not there. */
  integer(number) {
    const found = this.fields.findLast((field) => field.number === number)?.value ?? 0n;
    if (typeof found !== "bigint") throw new Error("a field is of another kind than it should be");
    return found;
  }

  /** @param {number} number */
  string(number) {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.bytes(number));
  }
}
