// Checks a kept receipt, step by step, with nothing but a trust bundle. Asks nobody; the same rules, in the same order,
// as `cloister receipt verify` (cloister/client/receipts.py, cloister/seal/receipt.py).

import { concat, equal, hex, text, utf8 } from "./bytes.mjs";
import { Message } from "./protobuf.mjs";
import { ed25519Holds, sha256 } from "./signatures.mjs";
import { tensors } from "./tensors.mjs";
import { checkBelievable, checkInForce, openToken, readBundle, verifierKeys } from "./trust.mjs";

/** @typedef {import("./bytes.mjs").Bytes} Bytes */

const LABEL = "cloister receipts v1";
const LARGEST_TREE = 65536;

/** @typedef {{name: string, why: string, outcome: "passed" | "failed" | "undecided" | "not made", detail: string}} Step */
/** @typedef {{verdict: "holds" | "broken" | "undecided", steps: Step[], facts: [string, string][], simulated: boolean}} Verdict */

const STEPS = /** @type {const} */ ([
  ["files", "Both files can be read", "One is a receipt as Cloister keeps it, the other a trust bundle."],
  ["keys", "Whose word counts is known", "The trust bundle says which keys the mesh's verifier signs with."],
  ["result", "The verifier signed the Attestation Result", "It says what the verifier found out about the enclave."],
  ["force", "The Result was in force", "It is for this mesh, and the answer was given within its time."],
  ["enclave", "The enclave is one that the bundle believes", "Its code, its root of trust, no debugger."],
  [
    "signature",
    "That enclave signed the receipt",
    "With the key in the Result; answers of one moment share a signature.",
  ],
  ["names", "The receipt is about that enclave", "It names the same worker and the same Result."],
  ["content", "Question and answer are those that were signed", "Their hashes are in the receipt."],
]);

/**
 * @param {Bytes} receiptFile As `cloister infer --receipt` wrote it.
 * @param {string} bundleFile trust.json.
 * @returns {Promise<Verdict>}
 */
export async function checkReceipt(receiptFile, bundleFile) {
  /** @type {Step[]} */
  const steps = STEPS.map(([, name, why]) => ({ name, why, outcome: "not made", detail: "" }));
  const found = /** @type {any} */ ({});
  let undecided = false;
  for (const [at, [id]] of STEPS.entries()) {
    try {
      const detail = await CHECKS[id](found, receiptFile, bundleFile);
      steps[at].detail = detail;
      steps[at].outcome = id === "enclave" && !found.allLookedAt ? "undecided" : "passed";
      undecided ||= steps[at].outcome === "undecided";
    } catch (error) {
      steps[at].detail = error instanceof Error ? error.message : String(error);
      steps[at].outcome = "failed";
      return { verdict: "broken", steps, facts: [], simulated: false };
    }
  }
  const verdict = undecided ? "undecided" : "holds";
  return { verdict, steps, facts: factsOf(found), simulated: found.result.simulated };
}

/** @type {Record<string, (found: any, receiptFile: Bytes, bundleFile: string) => Promise<string>>} */
const CHECKS = {
  async files(found, receiptFile, bundleFile) {
    found.bundle = readBundle(bundleFile);
    found.kept = new Message(receiptFile);
    found.receipt = new Message(found.kept.bytes(1));
    found.body = new Message(found.receipt.bytes(1));
    found.issuedAt = Number(BigInt.asIntN(64, found.body.integer(11))) / 1000;
    if (!found.kept.bytes(4).length || !found.receipt.bytes(1).length)
      throw new Error("it is no receipt, or not all of one");
    return `A receipt of ${receiptFile.length.toLocaleString("en")} bytes; the trust bundle of ${found.bundle.cluster}.`;
  },
  async keys(found) {
    const { keys, by } = await verifierKeys(found.bundle);
    found.keys = keys;
    return `${keys.length} ${keys.length === 1 ? "key" : "keys"} of ${found.bundle.verifier.id}: ${by}.`;
  },
  async result(found) {
    Object.assign(found, await openToken(text(found.kept.bytes(4)), found.keys));
    return `Result ${found.result.id}, signed with ${found.key.algorithm} by key ${found.key.kid.slice(0, 16)}….`;
  },
  async force(found) {
    checkInForce(found.result, found.key, found.bundle, found.issuedAt);
    return `Answered ${moment(found.issuedAt)}; the Result is of ${moment(found.result.issuedAt)}, until ${moment(found.result.expiresAt)}.`;
  },
  async enclave(found) {
    found.allLookedAt = checkBelievable(found.result, found.bundle);
    const what = found.result.tee === "tdx" ? "Trust domain" : "Measurement";
    if (found.allLookedAt) return `${what} ${found.result.measurement}.`;
    return "The bundle also asks for reference values of a policy, which this page does not read: 'cloister receipt verify' does.";
  },
  async signature(found) {
    const { receipt, result } = found;
    const size = Number(receipt.integer(2));
    const path = receipt.all(4);
    const known = receipt.fields.every(
      (/** @type {{number: number}} */ field) => field.number >= 1 && field.number <= 5,
    );
    if (!known || size < 1 || size > LARGEST_TREE || path.length > 17)
      throw new Error("it has not the form of a receipt");
    const head = await rootOfPath(
      await sha256(Uint8Array.of(0), receipt.bytes(1)),
      Number(receipt.integer(3)),
      size,
      path,
    );
    const message = context(LABEL, BigInt(size), head);
    if (!(await ed25519Holds(result.receiptKey, receipt.bytes(5), message)))
      throw new Error("its signature does not hold");
    if (found.body.integer(1) !== 1n) throw new Error("it is of a version that is not known");
    return `Ed25519 by receipt key ${hex(result.receiptKey).slice(0, 16)}…, over ${size === 1 ? "this answer alone" : `a tree of ${size} leaves`}.`;
  },
  async names({ body, result }) {
    if (body.string(10) !== result.instance || body.string(9) !== result.id)
      throw new Error("it names another worker or Result");
    return `Worker ${result.instance}.`;
  },
  async content({ kept, body }) {
    for (const [field, hash, what] of [
      [2, 3, "question"],
      [3, 4, "answer"],
    ]) {
      const digest = await sha256(body.bytes(2), kept.bytes(field));
      if (!equal(digest, body.bytes(hash))) throw new Error(`the ${what} is not the one that was signed`);
    }
    return `Question of ${kept.bytes(2).length} bytes, answer of ${kept.bytes(3).length} bytes.`;
  },
};

/** The tree head that an audit path leads to (RFC 9162, section 2.1.3.2). */
async function rootOfPath(
  /** @type {Bytes} */ leaf,
  /** @type {number} */ index,
  /** @type {number} */ size,
  /** @type {Bytes[]} */ path,
) {
  if (index < 0 || index >= size || path.some((sibling) => sibling.length !== 32))
    throw new Error("its path leads nowhere");
  let [node, last] = [leaf, size - 1];
  for (const sibling of path) {
    if (last === 0) throw new Error("its path is too long");
    if (index & 1 || index === last) {
      node = await sha256(Uint8Array.of(1), sibling, node);
      while (!(index & 1) && index) [index, last] = [index >> 1, last >> 1];
    } else {
      node = await sha256(Uint8Array.of(1), node, sibling);
    }
    [index, last] = [index >> 1, last >> 1];
  }
  if (last) throw new Error("its path is too short");
  return node;
}

/** A label and fields in one, so that different fields never give the same bytes (cloister/seal/hpke.py). */
function context(/** @type {(string | bigint | Bytes)[]} */ ...items) {
  return concat(
    ...items.flatMap((item) => {
      const kind = typeof item === "string" ? "s" : typeof item === "bigint" ? "i" : "b";
      const raw = typeof item === "string" ? utf8(item) : typeof item === "bigint" ? eight(item) : item;
      return [utf8(kind), eight(BigInt(raw.length)).subarray(4), raw];
    }),
  );
}

/** @param {bigint} value */
function eight(value) {
  const raw = new Uint8Array(8);
  new DataView(raw.buffer).setBigUint64(0, value);
  return raw;
}

/** @param {any} found @returns {[string, string][]} */
function factsOf({ kept, body, result, issuedAt }) {
  return [
    ["Answered at", moment(issuedAt)],
    ["With model", `${body.string(5)}@${body.string(6)}`],
    ["Model digest", hex(body.bytes(7))],
    ["Under release policy", hex(body.bytes(8))],
    ...codeOf(result),
    ["Worker", result.instance],
    ["TCB status", [result.tcb_status, ...result.advisory_ids].join(", ")],
    [
      "Root of trust",
      result.simulated ? "a simulator's: it proves nothing about hardware" : `Intel's (${result.anchor})`,
    ],
    ["Request id", hex(body.bytes(2))],
    ...tensors(kept.bytes(2), "asked").map(named("Asked")),
    ...tensors(kept.bytes(3), "answered").map(named("Answered")),
  ];
}

/** @param {import("./trust.mjs").Result} result @returns {[string, string][]} */
function codeOf(result) {
  if (result.tee !== "tdx") {
    return [
      ["By enclave (MRENCLAVE)", result.mrenclave],
      ["Signed by (MRSIGNER)", result.mrsigner],
    ];
  }
  return [
    ["By trust domain", result.measurement],
    ["Its firmware (MRTD)", result.td.mrtd],
  ];
}

const named = (/** @type {string} */ word) => (/** @type {{name: string, words: string}} */ tensor) =>
  /** @type {[string, string]} */ ([`${word}: ${tensor.name}`, tensor.words]);

/** @param {number} seconds */
function moment(seconds) {
  return Number.isFinite(seconds) && Math.abs(seconds) < 8e12
    ? new Date(seconds * 1000).toISOString().replace(/\.\d+Z/, "Z")
    : "at no time";
}
