// One worker's evidence, explained field by field.

import { ask, badge, el, facts, tick } from "./dom.mjs";

const OUTCOMES = /** @type {Record<string, [string, string]>} */ ({
  passed: ["good", "passed"],
  objected: ["bad", "objected"],
  "not made": ["plain", "not made"],
  "not checked": ["plain", "not judged"],
});

/** @param {any} evidence */
function render(evidence) {
  const place = (/** @type {string} */ id, /** @type {(Node | string)[]} */ ...content) =>
    /** @type {HTMLElement} */ (document.getElementById(id)).replaceChildren(...content);
  document.title = `Worker ${evidence.instance.slice(0, 8)}: Cloister`;
  place("instance", evidence.instance);
  /** @type {HTMLElement} */ (document.getElementById("simulated")).hidden = !evidence.simulated;
  place("decision", ...decision(evidence.decision));
  place("steps", ...evidence.steps.map(step));
  place("platform", evidence.platform.length ? facts(pairs(evidence.platform)) : "Nothing: the quote is not genuine.");
  place("result", evidence.result.length ? explained(evidence.result) : "None that can be read.");
  place(
    "claims",
    evidence.claims.length ? explained(evidence.claims) : "Not shown: the quote is not over claims that can be read.",
  );
  place("size", `${evidence.quote_bytes.toLocaleString()} bytes`);
  place("fields", ...groups(evidence.fields));
  tick();
}

/** @param {any} decision */
function decision(decision) {
  const by = `under policy '${decision.policy}', ${new Date(decision.judged_at).toLocaleString()}`;
  if (decision.believed) {
    const code = decision.pins_code ? "" : " Which code it runs was not judged: the trust bundle names none.";
    return [
      el("p", { class: "verdict good" }, `This console believes the evidence: two verifiers accept it ${by}.${code}`),
    ];
  }
  return [
    el("p", { class: "verdict bad" }, `This console does NOT believe the evidence: it is refused ${by}.`),
    el("p", { class: "why" }, `${decision.why} (${decision.reason})`),
  ];
}

/** @param {any} each */
function step(each) {
  const [tone, words] = OUTCOMES[each.outcome];
  return el("li", { class: tone }, el("span", {}, each.meaning), badge(tone, words));
}

/** @param {any[]} list @returns {[string, string][]} */
const pairs = (list) => list.map((/** @type {any} */ each) => [each.name, each.value]);

/** @param {any[]} list */
function explained(list) {
  return facts(
    list.map((each) => [
      each.name,
      el("span", {}, el("code", {}, each.value), each.meaning && el("span", { class: "line quiet" }, each.meaning)),
    ]),
    "facts wide",
  );
}

/** @param {any[]} fields */
function groups(fields) {
  if (fields.length === 0) return ["This is no SGX quote of version 3, and only those are laid out here."];
  const names = [...new Set(fields.map((field) => field.group))];
  return names.map((name) =>
    el("section", { class: "group" }, el("h3", {}, name), ...fields.filter((field) => field.group === name).map(row)),
  );
}

/** @param {any} field */
function row(field) {
  const [tone, words] = OUTCOMES[field.outcome];
  const reserved = field.name === "Reserved";
  const place = `bytes ${field.offset} to ${field.offset + field.size - 1}`;
  return el(
    "details",
    {
      class: `field ${tone}`,
      open: !reserved && ["MRENCLAVE", "MRTD", "REPORTDATA", "Attributes: flags", "TD attributes"].includes(field.name),
    },
    el(
      "summary",
      {},
      el("span", { class: "name" }, field.name),
      el(
        "span",
        { class: "value" },
        field.value || el("code", {}, `${field.hex.slice(0, 32)}${field.hex.length > 32 ? "…" : ""}`),
      ),
      badge(tone, field.step ? `check ${field.step}: ${words}` : words),
    ),
    facts(
      [
        ["What it is", field.meaning],
        ["What is asked of it", field.check],
        ["Where", `${place} (${field.size})`],
        [
          "Bytes",
          el(
            "code",
            { class: "hex" },
            field.hex.replace(/(.{8})(?=.)/g, "$1 "),
            field.cut ? ` … ${field.cut} more` : "",
          ),
        ],
      ],
      "facts wide",
    ),
  );
}

async function look() {
  const trouble = /** @type {HTMLElement} */ (document.getElementById("trouble"));
  const instance = decodeURIComponent(location.hash.slice(1));
  try {
    render(await ask(`/api/evidence/${encodeURIComponent(instance)}`));
    trouble.hidden = true;
    document.body.dataset.ready = "yes";
  } catch (error) {
    trouble.textContent = error instanceof Error ? error.message : String(error);
    trouble.hidden = false;
  }
}

window.addEventListener("hashchange", look);
look();
