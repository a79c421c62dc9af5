// Drawing with plotly.js, which is fetched after the figures, gets escaped names only, and shows no buttons of its own.

import { exactness, label, named, number, percent, shortened } from "./text.js";
import { dayText, monthText } from "./dates.js";

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

/** The page's colours in the present theme. */
function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    series: Array.from({ length: 9 }, (_, n) => of(`c${n}`)),
    text: of("text"), quiet: of("quiet"), grid: of("grid"), line: of("line"), card: of("card"),
  };
}

/** The name of a point of the model. */
export const calledAt = (model, place) => {
  const name = model.x[place];
  return model.kind === "day" ? dayText(name) : model.kind === "month" ? monthText(name) : named(name);
};

/** The name under an axis; months have a year only at the first point and in January. */
function tick(model, place) {
  if (model.kind !== "month") return label(calledAt(model, place), 26);
  const [month, year] = monthText(model.x[place]).split(" ");
  return place === 0 || month === "Jan" ? `${month}<br>${year}` : month;
}

/** The text of a point on hover: the figure and its accuracy. */
export function saying(series, place) {
  const value = series.values[place];
  const figure = series.percent ? percent(value) : number(value);
  const error = series.errors?.[place];
  return error && value !== null ? `${figure}, ${exactness({ value, ...error })}` : figure;
}

function trace(model, series, colour, hidden) {
  const at = model.x.map((name, place) => (model.kind === "day" ? name : place));
  const texts = series.values.map((_, place) => `${label(series.name, 32)}: ${saying(series, place)}`);
  const shared = {
    name: label(series.name, 32),
    customdata: texts,
    hovertemplate: "%{customdata}<extra></extra>",
    visible: !hidden,
    [model.across ? "y" : "x"]: at,
    [model.across ? "x" : "y"]: series.values,
    orientation: model.across ? "h" : "v",
    hoverlabel: { align: "left" },
  };
  if (series.kind === "bar") {
    return { ...shared, type: "bar", marker: { color: colour, opacity: series.light ? 0.4 : 1, line: { width: 0 } } };
  }
  if (series.kind === "mark") {
    return { ...shared, type: "scatter", mode: "markers", marker: { color: colour, symbol: "line-ns", size: 18, line: { color: colour, width: 3 } } };
  }
  return {
    ...shared,
    type: "scatter",
    mode: model.x.length < 3 ? "lines+markers" : "lines",
    line: { color: colour, width: 2, dash: series.percent ? "dot" : "solid" },
    connectgaps: false,
    yaxis: series.percent ? "y2" : "y",
  };
}

function layout(model, colour, picture, width) {
  const font = { family: "system-ui, sans-serif", size: 12, color: colour.quiet };
  const figures = {
    gridcolor: colour.grid, zerolinecolor: colour.line, tickformat: "~s", rangemode: "tozero", fixedrange: true, automargin: true,
    // Events are whole numbers: no fractional ticks on small axes.
    ...(model.most < 5 && { dtick: 1, tickformat: "d", range: [0, Math.max(model.most, 1) * 1.1] }),
  };
  // As many names as the width allows.
  const room = Math.max(2, Math.floor((width - 60) / (model.kind === "month" ? 36 : 75)));
  const every = model.across ? 1 : Math.ceil(model.x.length / room);
  const ticks = model.x.map((_, place) => place).filter((place) => place % every === 0);
  const over =
    model.kind === "day"
      ? { type: "date", tickformat: "%-d %b", hoverformat: "%A, %-d %B %Y", ...(model.x.length <= 8 && { dtick: 86_400_000 }) }
      : {
          type: "linear",
          tickmode: "array",
          tickvals: ticks,
          ticktext: ticks.map((place) => tick(model, place)),
          tickangle: model.kind === "month" ? 0 : "auto",
          // A single bar is no thicker than one of four.
          range: model.across ? [Math.max(model.x.length, 4) - 0.5, -0.5] : [-0.5, model.x.length - 0.5],
        };
  const places = { ...over, fixedrange: true, automargin: true, showgrid: false, linecolor: colour.line, zeroline: false };
  const shares = model.series.some((series) => series.percent);
  return {
    font,
    barmode: model.stacked ? "stack" : "group",
    bargap: 0.22,
    margin: { t: picture ? 60 : 8, r: shares ? 40 : 8, b: 28, l: 40 },
    paper_bgcolor: picture ? colour.card : "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    showlegend: Boolean(picture),
    legend: { orientation: "h", y: -0.15, traceorder: "normal" },
    dragmode: false,
    hovermode: model.across ? "y unified" : "x unified",
    hoverlabel: { bgcolor: colour.card, bordercolor: colour.line, font: { ...font, color: colour.text } },
    [model.across ? "yaxis" : "xaxis"]: places,
    [model.across ? "xaxis" : "yaxis"]: figures,
    ...(shares && { yaxis2: { overlaying: "y", side: "right", tickmode: "auto", nticks: 5, tickformat: ".1~%", rangemode: "tozero", showgrid: false, fixedrange: true } }),
    shapes: (model.lines ?? []).map((line) => ({
      type: "line", xref: "paper", x0: 0, x1: 1, y0: line.value, y1: line.value,
      line: { color: colour.quiet, width: 1.5, dash: "dash" },
    })),
    ...(picture && { title: { text: label(picture, 90), font: { ...font, size: 16, color: colour.text }, x: 0.02, xanchor: "left" } }),
  };
}

function drawn(model, hidden, picture, width) {
  const colour = colours();
  const data = model.series.map((series) => trace(model, series, colour.series[series.color], hidden.has(series.name)));
  return { data, layout: layout(model, colour, picture, width) };
}

/** @param {HTMLElement} place @param {object} model @param {Set<string>} hidden names of series not to draw */
export async function plot(place, model, hidden) {
  const plotly = await library();
  const { data, layout: of } = drawn(model, hidden, "", place.clientWidth);
  if (place.data) plotly.Fx.unhover(place);
  await plotly.react(place, data, of, { displayModeBar: false, responsive: true, doubleClick: false, showTips: false });
}

/** A picture of the chart as a data: URL, with its title and the names of its series. */
export async function picture(model, hidden, title) {
  const plotly = await library();
  const data = drawn(model, hidden, shortened(title, 90), 1000);
  return plotly.toImage(data, { format: "png", width: 1000, height: 520, scale: 2 });
}

/** Shows the text of a point, as hovering does. */
export async function point(element, model, place) {
  const plotly = await library();
  const at = model.kind === "day" ? Date.parse(`${model.x[place]}T00:00:00Z`) : place;
  plotly.Fx.hover(element, model.across ? { yval: at } : { xval: at });
}

export async function unpoint(element) {
  if (loading) (await loading).Fx.unhover(element);
}
