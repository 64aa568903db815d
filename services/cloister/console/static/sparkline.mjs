// A line without axes: how something went lately. Its figures stand beside it; this is for the shape alone.

import { svg } from "./dom.mjs";

const WIDTH = 96;
const HEIGHT = 24;
const POINTS = 90;

/** @param {number[]} values Oldest first. @param {string} label @returns {Element} */
export function sparkline(values, label) {
  const most = Math.max(...values, 0);
  const x = (/** @type {number} */ at) => ((POINTS - values.length + at) / (POINTS - 1)) * WIDTH;
  const y = (/** @type {number} */ value) => HEIGHT - 2 - (most ? (value / most) * (HEIGHT - 4) : 0);
  const points = values.map((value, at) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  return svg(
    "svg",
    {
      class: "spark",
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      width: WIDTH,
      height: HEIGHT,
      role: "img",
      "aria-label": label,
    },
    values.length > 1 && svg("polyline", { points }),
  );
}
