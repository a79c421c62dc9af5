// A small line of the past of a figure, without axes: decoration, hidden from screen readers.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 32;

/** @param {HTMLElement} place @param {(number|null)[]} values */
export function spark(place, values) {
  const known = values.map((value, at) => [at, value]).filter(([, value]) => value !== null);
  if (known.length < 2) {
    place.replaceChildren();
    return;
  }
  const most = Math.max(...known.map(([, value]) => value)) || 1;
  const x = (at) => ((at / (values.length - 1)) * 100).toFixed(2);
  const line = `M${known.map(([at, value]) => `${x(at)} ${(HEIGHT - 2 - (value / most) * (HEIGHT - 4)).toFixed(2)}`).join("L")}`;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 100 ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const [kind, path] of [["area", `${line}L${x(known.at(-1)[0])} ${HEIGHT}L${x(known[0][0])} ${HEIGHT}Z`], ["line", line]]) {
    const element = document.createElementNS(SVG, "path");
    element.setAttribute("class", kind);
    element.setAttribute("d", path);
    svg.append(element);
  }
  place.replaceChildren(svg);
}
