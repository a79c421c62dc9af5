// The kinds of users of each region by itself, in the last period of the range that is over.

import { SERIES } from "./charts_lifecycle.js";
import { caveats } from "./counters.js";
import { spanText } from "./dates.js";
import { byOf, figureCells, figureColumns, figureOf, figureText, UNKNOWN, WHY_UNKNOWN } from "./lifecycle.js";
import { askTiles } from "./lifecycle_tiles.js";
import { missingIn } from "./regions.js";
import { exactness } from "./text.js";

const ACTIVE = "active";

export async function byRegion(asker, chosen) {
  const { row } = await askTiles(asker, chosen);
  if (!row) return { rows: [], remark: "", chosen };
  const by = byOf(chosen);
  const answer = await asker.ask("/v1/lifecycle", { granularity: by, from: row.from, to: row.to, group_by: "region", ...chosen.query });
  const missing = missingIn(answer);
  const rows = answer.items.map((item) => ({
    names: { region: item.region },
    // A region that is missing has no users in the answer, which is no figure.
    figureOf: (id) => (missing.has(item.region) ? UNKNOWN : figureOf(item[id])),
    why: missing.has(item.region) ? "The region is missing." : item.unknown ? `Unknown: ${WHY_UNKNOWN[item.unknown]}.` : "",
  }));
  return { rows, remark: [`${spanText(row)}${row.ended ? "" : ", which is not over"}`, ...caveats(answer)].join("; "), chosen };
}

/** @returns {import("./rankings.js").Column} */
function column(id, title) {
  return {
    id, title,
    value: (row) => row.figureOf(id).value,
    text: (_, row) => figureText(row.figureOf(id)),
    hint: (row) => {
      const figure = row.figureOf(id);
      return figure.value !== null ? exactness(figure) : figure.fewerThan !== null ? "The estimate is too small against its error." : row.why;
    },
    fields: figureColumns(title),
    cells: (row) => figureCells(row.figureOf(id)),
  };
}

export const COLUMNS = [column(ACTIVE, "Active"), ...SERIES.map(({ id, name }) => column(id, name))];
