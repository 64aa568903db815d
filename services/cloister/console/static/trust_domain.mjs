// What a TDX trust domain measures as: the one digest that stands for all of it (cloister/td_measurement.py).

import { fromHex, hex, utf8 } from "./bytes.mjs";
import { sha256 } from "./signatures.mjs";

const LABEL = "cloister td measurement v1\0";
const REGISTERS = ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrconfigid", "mrowner", "mrownerconfig"];

/** 64 hex digits. @param {any} td `td` of an Attestation Result */
export async function tdMeasurement(td) {
  const sizes = [...REGISTERS.map((name) => [name, 96]), ["attributes", 16]];
  const names = sizes.map(([name]) => name);
  const isWhole =
    Object.keys(td ?? {}).length === names.length &&
    sizes.every(
      ([name, digits]) => typeof td[name] === "string" && /^[0-9a-f]+$/.test(td[name]) && td[name].length === digits,
    );
  if (!isWhole) throw new Error("it does not say what the trust domain measures as");
  return hex(await sha256(utf8(LABEL), ...names.map((name) => fromHex(td[name]))));
}
