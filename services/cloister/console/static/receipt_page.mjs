// The page on which a receipt is checked: two files in, a verdict out, and nothing leaves the browser.

import { badge, el, facts } from "./dom.mjs";
import { checkReceipt } from "./receipt.mjs";

const VERDICTS = {
  holds: ["good", "The receipt holds."],
  broken: ["bad", "The receipt does NOT hold."],
  undecided: ["warn", "The receipt is genuine, and not everything that the trust bundle asks for was checked here."],
};
const OUTCOMES = {
  passed: ["good", "passed"],
  failed: ["bad", "failed"],
  undecided: ["warn", "not checked here"],
  "not made": ["plain", "not made"],
};

/** @type {Record<string, File | null>} */
const files = { receipt: null, trust: null };
const LARGEST = { receipt: 256 * 2 ** 20, trust: 256 * 2 ** 10 };

for (const name of /** @type {const} */ (["receipt", "trust"])) {
  const input = /** @type {HTMLInputElement} */ (document.getElementById(name));
  const zone = /** @type {HTMLElement} */ (input.closest(".drop"));
  input.addEventListener("change", () => take(name, input.files?.[0] ?? null));
  zone.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    take(name, event.dataTransfer?.files[0] ?? null);
  });
}

/** @param {"receipt" | "trust"} name @param {File | null} file */
async function take(name, file) {
  files[name] = file;
  const said = /** @type {HTMLElement} */ (document.getElementById(`${name}-name`));
  said.textContent = file ? `${file.name}, ${file.size.toLocaleString()} bytes` : "";
  const verdict = /** @type {HTMLElement} */ (document.getElementById("verdict"));
  const { receipt, trust } = files;
  verdict.replaceChildren();
  if (!receipt || !trust) return;
  if (receipt.size > LARGEST.receipt || trust.size > LARGEST.trust) {
    verdict.replaceChildren(el("p", { class: "verdict bad" }, "One of the files is larger than such a file can be."));
    return;
  }
  try {
    const found = await checkReceipt(new Uint8Array(await receipt.arrayBuffer()), await trust.text());
    verdict.replaceChildren(...shown(found));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    verdict.replaceChildren(
      el("p", { class: "verdict bad" }, `One of the files cannot be read; choose it again (${why}).`),
    );
  }
}

/** @param {import("./receipt.mjs").Verdict} found */
function shown(found) {
  const [tone, words] = VERDICTS[found.verdict];
  return [
    el("p", { class: `verdict ${tone}` }, words),
    found.simulated &&
      el(
        "p",
        { class: "verdict simulated" },
        "Its enclave was simulated: whoever owned the machine could have made this receipt.",
      ),
    el("h2", {}, "What was checked"),
    el("ol", { class: "steps" }, ...found.steps.map(step)),
    found.facts.length ? el("h2", {}, "What it says") : "",
    found.facts.length ? facts(found.facts, "facts wide") : "",
  ].filter((each) => each !== false);
}

/** @param {import("./receipt.mjs").Step} each */
function step(each) {
  const [tone, words] = OUTCOMES[each.outcome];
  return el(
    "li",
    { class: tone },
    el(
      "span",
      {},
      el("strong", {}, each.name),
      el("span", { class: "line quiet" }, each.why),
      each.detail && el("span", { class: "line" }, each.detail),
    ),
    badge(tone, words),
  );
}
