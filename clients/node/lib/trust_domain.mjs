/** What a TDX trust domain measures as, and the one digest that stands for all of it (docs/seal-format.md, 4.4). */

import { sha256 } from './bytes.mjs';
import { exactObject } from './json.mjs';

const LABEL = 'cloister td measurement v1\0';
const REGISTERS = ['mrtd', 'rtmr0', 'rtmr1', 'rtmr2', 'rtmr3', 'mrconfigid', 'mrowner', 'mrownerconfig'];

/** @typedef {Record<string, Buffer>} TdMeasurement by the names of a TD report */

/** @param {unknown} member `td` of a Result @returns {TdMeasurement} */
export function readTd(member) {
  const found = exactObject(member, [...REGISTERS, 'attributes']);
  const registers = REGISTERS.map((name) => [name, octets(found[name], /^[0-9a-f]{96}$/)]);
  return { ...Object.fromEntries(registers), attributes: octets(found.attributes, /^[0-9a-f]{16}$/) };
}

/** 64 hex digits. @param {TdMeasurement} td */
export async function measurementOf(td) {
  const fields = [...REGISTERS, 'attributes'].map((name) => td[name]);
  return (await sha256(Buffer.from(LABEL), ...fields)).toString('hex');
}

/** @param {unknown} value @param {RegExp} form */
function octets(value, form) {
  if (typeof value !== 'string' || !form.test(value)) throw new Error('not the hex digits of a register');
  return Buffer.from(value, 'hex');
}
