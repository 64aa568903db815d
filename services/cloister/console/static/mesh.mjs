// The mesh at a glance: asked for once a second while the page is looked at.

import { ask, badge, el, facts, short, show, tick, when } from "./dom.mjs";
import { sparkline } from "./sparkline.mjs";

const EVERY_MS = 1000;
const MARKS = /** @type {Record<string, string>} */ ({
  serving: "good",
  draining: "warn",
  "no link": "bad",
  "no model yet": "warn",
  "unknown to the gateway": "warn",
});

/** @param {any} mesh */
function render(mesh) {
  document.title = `${mesh.cluster}: Cloister`;
  show("cluster", mesh.cluster, () => [mesh.cluster]);
  /** @type {HTMLElement} */ (document.getElementById("simulated")).hidden = !mesh.simulated;
  show("alarms", mesh.alarms, () => alarms(mesh.alarms));
  show("glance", glanceOf(mesh), () => glance(glanceOf(mesh)));
  show("workers", mesh.workers, () => mesh.workers.map(worker));
  show("models", mesh.models, () => mesh.models.map(model));
  show("events", mesh.events, () => mesh.events.map(event));
  show(
    "services",
    mesh.services.map((/** @type {any} */ each) => [each.name, each.trouble]),
    () => mesh.services.map(service),
  );
  show("process", mesh.requests.processes, () => [processes(mesh.requests)]);
  tick();
}

/** @param {any[]} alarms */
function alarms(alarms) {
  if (alarms.length === 0) return [el("li", { class: "good" }, "Nothing needs attention.")];
  return alarms.map((alarm) => {
    const words = alarm.instance
      ? el("a", { href: evidence(alarm.instance), "data-key": alarm.words }, alarm.words)
      : alarm.words;
    return el("li", { class: alarm.tone }, words);
  });
}

/** @param {any} mesh */
function glanceOf(mesh) {
  const serving = mesh.workers.filter((/** @type {any} */ each) => each.state === "serving");
  const rate = mesh.models.reduce((/** @type {number} */ sum, /** @type {any} */ each) => sum + each.now.per_second, 0);
  const refusals = mesh.events.filter((/** @type {any} */ each) =>
    ["key.refused", "evidence.rejected"].includes(each.event),
  ).length;
  return {
    serving: serving.length,
    workers: mesh.workers.length,
    believed: mesh.workers.filter((/** @type {any} */ each) => each.belief.believed).length,
    rate,
    total: mesh.requests.total,
    failed: mesh.requests.failed,
    queued: mesh.requests.queued,
    refusals,
  };
}

/** @param {ReturnType<typeof glanceOf>} now */
function glance(now) {
  const tile = (/** @type {string} */ name, /** @type {string} */ value, /** @type {string} */ more) =>
    el("div", { class: "tile" }, el("dt", {}, name), el("dd", {}, el("strong", {}, value), el("span", {}, more)));
  return [
    tile("Workers serving", `${now.serving} of ${now.workers}`, `evidence of ${now.believed} believed by this console`),
    tile(
      "Answers",
      `${number(now.rate)} /s`,
      now.total === null
        ? "unknown"
        : `${now.total.toLocaleString()} ${now.total === 1 ? "request" : "requests"} since the gateway started`,
    ),
    tile(
      "Failed",
      now.failed === null ? "unknown" : now.failed.toLocaleString(),
      now.queued === null ? "" : `${now.queued} waiting now`,
    ),
    tile("Refusals", String(now.refusals), "keys and evidence, among the events below"),
  ];
}

/** @param {any} each */
function worker(each) {
  const state = [
    badge(MARKS[each.state] ?? "plain", each.state),
    each.simulated && badge("simulated", "simulated: protects nothing"),
  ];
  const belief =
    each.belief.believed === null
      ? badge("plain", each.belief.why)
      : each.belief.believed
        ? badge("good", "evidence believed")
        : badge("bad", "evidence NOT believed");
  const leases = each.leases.map((/** @type {any} */ lease) =>
    el("span", { class: "line" }, `${lease.model} `, when(lease.until)),
  );
  return el(
    "article",
    { class: "card", "aria-labelledby": `w-${each.instance}` },
    el(
      "h3",
      { id: `w-${each.instance}` },
      el("a", { href: evidence(each.instance), "data-key": each.instance }, `Worker ${each.instance.slice(0, 8)}`),
    ),
    el("p", { class: "badges" }, ...state, belief),
    each.belief.believed === false && el("p", { class: "why" }, `${each.belief.why} (${each.belief.reason})`),
    facts([
      ["Serves", each.models.join(", ") || "nothing yet"],
      ["Attested until", when(each.attested_until)],
      ["Key leases end", leases.length ? el("span", {}, ...leases) : "none known"],
      [
        "TCB status",
        el(
          "span",
          {},
          badge(each.tcb_status === "UpToDate" ? "good" : "warn", each.tcb_status || "unknown"),
          el("span", { class: "line quiet" }, each.tcb_words),
        ),
      ],
      ["Advisories", each.advisories.join(", ") || "none"],
      ["Trust rests on", each.anchor || "unknown"],
      [each.tee === "tdx" ? "Trust domain" : "Measurement", short(each.measurement)],
      ["Address", each.endpoint || "unknown"],
      ["Busy", `${each.slots_used} of ${each.slots} slots`],
      [
        "Memory",
        each.memory_bytes === null ? "not told yet" : `${Math.round(each.memory_bytes / 1048576).toLocaleString()} MiB`,
      ],
    ]),
    el(
      "p",
      {},
      el(
        "a",
        {
          class: "more",
          href: evidence(each.instance),
          "data-key": `more-${each.instance}`,
          "aria-label": `Evidence of worker ${each.instance.slice(0, 8)}, explained`,
        },
        "Evidence, explained",
      ),
    ),
  );
}

/** @param {string} instance */
function evidence(instance) {
  return `/worker#${encodeURIComponent(instance)}`;
}

/** @param {any} each */
function model(each) {
  const refused = Object.entries(each.refused).map(([reason, count]) => `${count} ${reason}`);
  const rates = each.points.map((/** @type {any} */ point) => point.per_second);
  const latencies = each.points.map((/** @type {any} */ point) => point.p50_ms ?? 0);
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, `${each.name}@${each.version}`, unserved(each)),
    el("td", { "data-label": "Workers" }, each.workers),
    el(
      "td",
      { "data-label": "Answers /s" },
      el("span", { class: "figure" }, number(each.now.per_second)),
      sparkline(rates, `answers per second of ${each.name}, the last 90 seconds`),
    ),
    el(
      "td",
      { "data-label": "p50" },
      el("span", { class: "figure" }, milliseconds(each.now.p50_ms)),
      sparkline(latencies, `median latency of ${each.name}, the last 90 seconds`),
    ),
    el("td", { "data-label": "p99" }, milliseconds(each.now.p99_ms)),
    el("td", { "data-label": "Waiting / busy" }, `${each.waiting} / ${each.under_way}`),
    el("td", { "data-label": "Refused" }, refused.join(", ") || "none"),
  );
}

/** @param {any} each */
function unserved(each) {
  if (each.withdrawn) return badge("warn", "withdrawn");
  if (each.held) return badge("warn", "held until its owner signs anew");
  return !each.workers && badge("bad", "no worker serves it");
}

/** @param {any} each */
function event(each) {
  const about = [
    each.instance &&
      el(
        "a",
        { href: evidence(each.instance), "data-key": `${each.record}-${each.sequence}` },
        `worker ${each.instance.slice(0, 8)}`,
      ),
    each.reason && el("code", {}, each.reason),
    each.simulated && badge("simulated", "simulated"),
  ].filter(Boolean);
  return el(
    "li",
    { class: each.tone },
    el("span", { class: "at" }, when(each.time)),
    el(
      "span",
      { class: "what" },
      el("strong", {}, each.title),
      each.why && el("span", { class: "line" }, each.why),
      el("span", { class: "about" }, ...about),
    ),
    el("span", { class: "of" }, `${each.record} ${each.sequence}`),
  );
}

/** @param {any} each */
function service(each) {
  return el(
    "li",
    { class: each.trouble ? "bad" : "good" },
    `${each.name} ${each.trouble ? `: ${each.trouble}` : "answers"}`,
  );
}

/** @param {any} requests */
function processes(requests) {
  return requests.processes > 1
    ? `Requests are those of process ${requests.process} of the gateway's ${requests.processes}; each counts for itself.`
    : "";
}

/** @param {number} value */
function number(value) {
  return value >= 100
    ? Math.round(value).toLocaleString()
    : value.toLocaleString(undefined, { maximumFractionDigits: 1 });
}

/** @param {number | null} value */
function milliseconds(value) {
  return value === null ? "–" : `${value >= 100 ? Math.round(value) : Number(value.toPrecision(2))} ms`;
}

async function look() {
  const trouble = /** @type {HTMLElement} */ (document.getElementById("trouble"));
  if (document.hidden) return;
  try {
    render(await ask("/api/mesh"));
    trouble.hidden = true;
    document.body.dataset.ready = "yes";
  } catch (error) {
    trouble.textContent = `What you see is old: the console does not answer (${error instanceof Error ? error.message : error}).`;
    trouble.hidden = false;
  }
}

async function watch() {
  await look();
  setTimeout(watch, EVERY_MS);
}

document.addEventListener("visibilitychange", look);
watch();
