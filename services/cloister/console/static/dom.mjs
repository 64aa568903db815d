// Elements made of text. Nothing that came from the mesh is ever read as markup: there is no other way to put it here.

const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {string} tag
 * @param {Record<string, string | number | boolean | null | undefined>} attributes `class`, `href`, ...; null leaves one out.
 * @param {...(Node | string | number | null | undefined | false)} children
 * @returns {HTMLElement}
 */
export function el(tag, attributes = {}, ...children) {
  return /** @type {HTMLElement} */ (filled(document.createElement(tag), attributes, children));
}

/** The same for drawings. @param {string} tag @param {Record<string, any>} attributes @param {...any} children */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** @param {Element} element @param {Record<string, any>} attributes @param {any[]} children */
function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false)
      element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(
    ...children
      .filter((child) => child !== null && child !== undefined && child !== false)
      .map((child) => (typeof child === "number" ? String(child) : child)),
  );
  return element;
}

/** @type {Map<string, string>} */
const shown = new Map();

/**
 * Fill a place anew if what it shows has changed; whoever had the keyboard there keeps it.
 * @param {string} id @param {any} data @param {() => (Node | string)[]} make
 */
export function show(id, data, make) {
  const now = JSON.stringify(data);
  if (shown.get(id) === now) return;
  shown.set(id, now);
  const place = /** @type {HTMLElement} */ (document.getElementById(id));
  const focused = place.contains(document.activeElement) ? document.activeElement?.getAttribute("data-key") : null;
  place.replaceChildren(...make());
  if (focused) {
    const again = Array.from(place.querySelectorAll("[data-key]")).find(
      (each) => each.getAttribute("data-key") === focused,
    );
    if (again instanceof HTMLElement) again.focus({ preventScroll: true });
  }
}

/** A time that says how far it is, and keeps saying it. @param {string | null} iso @param {string} [none] */
export function when(iso, none = "unknown") {
  if (!iso) return el("span", {}, none);
  const date = new Date(iso);
  const element = el("time", { datetime: iso, title: date.toLocaleString() });
  element.textContent = distance(date);
  return element;
}

/** Let every time on the page say how far it is now. */
export function tick() {
  for (const element of document.querySelectorAll("time")) {
    const words = distance(new Date(element.dateTime));
    if (element.textContent !== words) element.textContent = words;
  }
}

/** @param {Date} date */
function distance(date) {
  const seconds = Math.round((date.getTime() - Date.now()) / 1000);
  const size = Math.abs(seconds);
  if (size < 3) return "now";
  const words =
    size < 90
      ? `${size} s`
      : size < 5400
        ? `${Math.round(size / 60)} min`
        : size < 129600
          ? `${Math.round(size / 3600)} h`
          : `${Math.round(size / 86400)} days`;
  return seconds < 0 ? `${words} ago` : `in ${words}`;
}

/** A word with a colour and a mark, so that the colour is not all. @param {string} tone @param {string} words */
export function badge(tone, words) {
  return el("span", { class: `badge ${tone}` }, words);
}

/** A long number: its beginning, and all of it where it is asked for. @param {string} digits @param {number} [length] */
export function short(digits, length = 16) {
  return digits.length > length ? el("code", { title: digits }, `${digits.slice(0, length)}…`) : el("code", {}, digits);
}

/** Names and values. @param {[string, Node | string | number | null][]} pairs @param {string} [kind] */
export function facts(pairs, kind = "facts") {
  const rows = pairs.filter(([, value]) => value !== null);
  return el(
    "dl",
    { class: kind },
    ...rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))),
  );
}

/** Ask for JSON; raises with the server's words. @param {string} path */
export async function ask(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  if (answer.ok) return answer.json();
  const said = await answer.text();
  try {
    throw new Error(JSON.parse(said).error.message);
  } catch (error) {
    throw error instanceof SyntaxError ? new Error(said.trim()) : error;
  }
}
