// Drawing with plotly.js, which is fetched after the figures, gets escaped names only, and shows no buttons of its own.

import { dayText, firstOfWeek, longDayText, monthText, shortDayText, shortMonthText, weekText } from "./dates.js";
import { compact, exactness, fewerText, label, make, named, number, percent, SEPARATORS, shortened } from "./text.js";

let loading = null;

/** plotly.js, fetched once; rejects if the fetch fails. */
export function library() {
  loading ??= new Promise((resolve, reject) => {
    const meta = document.querySelector('meta[name="charts"]');
    if (!meta.content) {
      reject(new Error("no library"));
      return;
    }
    // Unused parts of it would add style elements, unless elements with their ids exist.
    for (const id of meta.dataset.styleIds.split(" ").filter(Boolean)) {
      const stand = document.createElement("meta");
      stand.id = id;
      document.head.append(stand);
    }
    const script = document.createElement("script");
    script.src = meta.content;
    script.addEventListener("load", () => resolve(window.Plotly));
    script.addEventListener("error", () => {
      loading = null;
      script.remove();
      reject(new Error("the library cannot be fetched"));
    });
    document.head.append(script);
  });
  return loading;
}

const waiting = [];

/** Draws one element at a time, visible ones first, and yields in between so that the page stays responsive. */
export function turn(element, work) {
  return new Promise((resolve, reject) => {
    waiting.push({ element, work, resolve, reject });
    if (waiting.length === 1) setTimeout(next);
  });
}

async function next() {
  const seen = ({ element }) => {
    const { top, bottom } = element.getBoundingClientRect();
    return bottom > 0 && top < window.innerHeight;
  };
  const place = Math.max(0, waiting.findIndex(seen));
  const { work, resolve, reject } = waiting[place];
  try {
    resolve(await work());
  } catch (error) {
    reject(error);
  }
  waiting.splice(place, 1);
  if (waiting.length) setTimeout(next);
}

/** The page's colours in the present theme, resolved by the browser: the tokens have a value per theme. */
function colours() {
  const probe = make("span", { hidden: "" });
  document.body.append(probe);
  const of = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const found = {
    series: Array.from({ length: 9 }, (_, n) => of(`c${n}`)),
    heat: Array.from({ length: 8 }, (_, n) => of(`h${n}`)),
    text: of("text"), quiet: of("quiet"), grid: of("grid"), line: of("line"), card: of("card"),
  };
  probe.remove();
  return found;
}

/** The name of a point of the model. */
export const calledAt = (model, place) => {
  const name = model.x[place];
  return model.kind === "day" ? longDayText(name) : model.kind === "month" ? monthText(name) : model.kind === "week" ? weekText(name) : named(name);
};

/** The name under an axis; months have a year only at the first point and in January. */
function tick(model, place) {
  const name = model.x[place];
  if (model.kind === "day") return shortDayText(name);
  if (model.kind === "week") return shortDayText(firstOfWeek(name));
  if (model.kind === "name") return label(name, 26);
  return place === 0 || name.endsWith("-01") ? `${shortMonthText(name)}<br>${name.slice(0, 4)}` : shortMonthText(name);
}

/** The text of a point: the figure and its accuracy; that of a compared point names its own day. */
export function saying(series, place) {
  const value = series.values[place];
  const error = series.errors?.[place];
  const figure = error?.fewerThan ? fewerText(error.fewerThan) : series.percent ? percent(value) : number(value);
  const at = series.at?.[place];
  const day = !at ? "" : ` (${at.includes("W") ? weekText(at) : at.length > 7 ? dayText(at) : monthText(at)})`;
  return `${figure}${error && value !== null && value !== undefined ? `, ${exactness({ value, ...error })}` : ""}${day}`;
}

function traces(model, series, colour, hidden) {
  const at = model.x.map((_, place) => place);
  // A point without a figure has no hover text, so one with a bound has a bar without height.
  const drawn = series.values.map((value, place) => (value === null && series.errors?.[place]?.fewerThan ? 0 : series.below && value ? -value : value));
  const shared = {
    name: label(series.name, 32),
    customdata: series.values.map((_, place) => `${label(series.name, 32)}: ${saying(series, place)}`),
    hovertemplate: "%{customdata}<extra></extra>",
    visible: !hidden,
    [model.across ? "y" : "x"]: at,
    [model.across ? "x" : "y"]: drawn,
    orientation: model.across ? "h" : "v",
    hoverlabel: { align: "left" },
  };
  const last = model.x.length - 1;
  if (series.kind === "bar") {
    const opacity = series.light ? 0.4 : model.partial ? at.map((place) => (place === last ? 0.5 : 1)) : 1;
    return [{ ...shared, type: "bar", marker: { color: colour, opacity, line: { width: 0 } } }];
  }
  if (series.kind === "mark") {
    return [{ ...shared, type: "scatter", mode: "markers", marker: { color: colour, symbol: "line-ns", size: 18, line: { color: colour, width: 3 } } }];
  }
  const line = { color: colour, width: series.dotted ? 1.75 : 2.25, dash: series.dotted ? "dot" : "solid" };
  const whole = { ...shared, type: "scatter", mode: model.x.length < 3 ? "lines+markers" : "lines", line, connectgaps: false };
  if (!model.partial || series.dotted || last < 1) return [whole];
  // The segment to the unfinished day is dashed: a trace of its own, and an invisible one for hovering over all points.
  const only = (from, to) => series.values.map((value, place) => (place >= from && place <= to ? value : null));
  return [
    { ...whole, y: only(0, last - 1), hoverinfo: "skip", hovertemplate: undefined },
    { ...whole, y: only(last - 1, last), line: { ...line, dash: "dash" }, hoverinfo: "skip", hovertemplate: undefined, showlegend: false },
    { ...shared, type: "scatter", mode: "markers", marker: { color: colour, opacity: 0 }, showlegend: false },
  ];
}

/** The axis of figures. Events are whole numbers: no fractional ticks on small axes. Shares end at 100 %. */
function figureAxis(model, colour) {
  const shared = { gridcolor: colour.grid, zerolinecolor: colour.line, fixedrange: true, automargin: true };
  if (model.series.every((series) => series.percent)) {
    const least = Math.min(1, ...model.series.flatMap((series) => series.values.filter((value) => value !== null)));
    const range = model.whole ? [Math.max(0, Math.floor(least * 10 - 0.5) / 10), 1.005] : undefined;
    return { ...shared, tickformat: ".0%", nticks: 6, ...(range ? { range } : { rangemode: "tozero" }) };
  }
  if (model.least < 0) return { ...shared, ...bothWays(model) };
  if (model.most < 5) return { ...shared, dtick: 1, tickformat: "d", range: [0, Math.max(model.most, 1) * 1.1] };
  return { ...shared, tickformat: model.most < 10_000 ? "," : "~s", nticks: 6, rangemode: "tozero" };
}

/** An axis that counts upwards in both directions from zero. @param {{least: number, most: number}} model */
function bothWays({ least, most }) {
  const rough = Math.max((most - least) / 5, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((each) => each * power >= rough) * power;
  const ticks = [];
  for (let at = Math.floor(least / step); at <= Math.ceil(most / step); at += 1) ticks.push(at * step);
  const room = (most - least) * 0.04;
  return { tickmode: "array", tickvals: ticks, ticktext: ticks.map((tick) => compact(Math.abs(tick))), range: [least - room, most + room], zerolinewidth: 2 };
}

function placeAxis(model, colour, width) {
  // As many names as the width allows.
  const room = Math.max(2, Math.floor((width - 60) / { month: 40, week: 58, day: 58, name: 75 }[model.kind]));
  const every = model.across ? 1 : Math.ceil(model.x.length / room);
  const ticks = model.x.map((_, place) => place).filter((place) => place % every === 0);
  return {
    tickmode: "array", tickvals: ticks, ticktext: ticks.map((place) => tick(model, place)),
    tickangle: model.kind === "name" ? "auto" : 0,
    // A single bar is no thicker than one of four.
    range: model.across ? [Math.max(model.x.length, 4) - 0.5, -0.5] : [-0.5, model.x.length - 0.5],
    fixedrange: true, automargin: true, showgrid: false, linecolor: colour.line, zeroline: false,
  };
}

function layout(model, colour, picture, width) {
  const font = { family: "system-ui, sans-serif", size: 12, color: colour.quiet };
  return {
    font,
    separators: SEPARATORS,
    // "relative" stacks bars below the axis downwards.
    barmode: !model.stacked ? "group" : model.least < 0 ? "relative" : "stack",
    bargap: 0.22,
    margin: { t: picture ? 60 : 8, r: 8, b: 28, l: 40 },
    paper_bgcolor: picture ? colour.card : "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    showlegend: Boolean(picture),
    legend: { orientation: "h", y: -0.15, traceorder: "normal" },
    dragmode: false,
    hovermode: model.across ? "y unified" : "x unified",
    hoverlabel: { bgcolor: colour.card, bordercolor: colour.line, font: { ...font, color: colour.text } },
    [model.across ? "yaxis" : "xaxis"]: placeAxis(model, colour, width),
    [model.across ? "xaxis" : "yaxis"]: figureAxis(model, colour),
    shapes: (model.lines ?? []).map((line) => ({
      type: "line", xref: "paper", x0: 0, x1: 1, y0: line.value, y1: line.value,
      line: { color: colour.quiet, width: 1.5, dash: "dash" },
    })),
    ...(picture && { title: { text: label(picture, 90), font: { ...font, size: 16, color: colour.text }, x: 0.02, xanchor: "left" } }),
  };
}

function drawn(model, hidden, picture, width) {
  const colour = colours();
  const data = model.series.flatMap((series) => traces(model, series, colour.series[series.color], hidden.has(series.id)));
  return { data, layout: layout(model, colour, picture, width) };
}

/**
 * @param {HTMLElement} element @param {object} model @param {Set<string>} hidden ids of series not to draw
 * @param {(place: number) => void} onPick called with the number of a clicked point
 */
export async function plot(element, model, hidden, onPick) {
  const plotly = await library();
  const { data, layout: of } = drawn(model, hidden, "", element.clientWidth);
  if (element.data) plotly.Fx.unhover(element);
  await plotly.react(element, data, of, { displayModeBar: false, responsive: true, doubleClick: false, showTips: false });
  element.removeAllListeners("plotly_click");
  element.on("plotly_click", ({ points: [point] }) => point && onPick(Math.round(model.across ? point.y : point.x)));
}

/** The chart in the size of paper, or of the page again. @param {{width: number, height: number}|null} size */
export async function resize(element, size) {
  const plotly = await library();
  if (element.data) await plotly.relayout(element, size ?? { autosize: true, width: undefined, height: undefined });
}

/** A picture of the chart as a data: URL, with its title and the names of its series. */
export async function picture(model, hidden, title) {
  const plotly = await library();
  const data = drawn(model, hidden, shortened(title, 90), 1000);
  return plotly.toImage(data, { format: "png", width: 1000, height: 520, scale: 2 });
}

/**
 * A picture of a heat map as a data: URL.
 * @param {{heads: string[], lines: {name: string, cells: {value: number|null, text: string}[]}[], top: number, steps: number}} heat
 */
export async function heatPicture({ heads, lines, top, steps }, title) {
  const plotly = await library();
  const colour = colours();
  const font = { family: "system-ui, sans-serif", size: 12, color: colour.quiet };
  const cells = (of, none = null) => lines.map((line) => heads.map((_, place) => (line.cells[place] ? of(line.cells[place]) : none)));
  const trace = {
    type: "heatmap", x: heads, y: lines.map((line) => label(line.name)), z: cells((cell) => cell.value), zmin: 0, zmax: top, xgap: 2, ygap: 2,
    text: cells((cell) => label(cell.text), ""), texttemplate: "%{text}", hoverongaps: false, showscale: false,
    colorscale: colour.heat.flatMap((each, step) => [[step / steps, each], [(step + 1) / steps, each]]),
  };
  const layout = {
    font, separators: SEPARATORS, margin: { t: 80, r: 8, b: 16, l: 40 }, paper_bgcolor: colour.card, plot_bgcolor: colour.card,
    title: { text: label(title, 110), font: { ...font, size: 16, color: colour.text }, x: 0.02, xanchor: "left" },
    xaxis: { type: "category", side: "top", showgrid: false }, yaxis: { type: "category", autorange: "reversed", showgrid: false, automargin: true },
  };
  return plotly.toImage({ data: [trace], layout }, { format: "png", width: 1000, height: Math.max(320, 120 + 30 * lines.length), scale: 2 });
}

/** Shows the text of a point, as hovering does. */
export async function point(element, model, place) {
  const plotly = await library();
  plotly.Fx.hover(element, model.across ? { yval: place } : { xval: place });
}

export async function unpoint(element) {
  if (loading) (await loading).Fx.unhover(element);
}
