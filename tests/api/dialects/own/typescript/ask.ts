// Uses the generated types against a running api; the test compares what it prints.
import type { components, paths } from "./api.js";

declare const process: { env: { AUTHTALLY_URL: string; AUTHTALLY_TOKEN: string } };

type Answer<Path extends keyof paths> = paths[Path] extends {
  get: { responses: { 200: { content: { "application/json": infer Body } } } };
}
  ? Body
  : never;

const { AUTHTALLY_URL: url, AUTHTALLY_TOKEN: token } = process.env;
const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };

async function get<Path extends keyof paths>(path: Path, query = ""): Promise<Answer<Path>> {
  const response = await fetch(`${url}${path}${query}`, { headers });
  return (await response.json()) as Answer<Path>;
}

const event: components["schemas"]["NativeEvent"] = {
  type: "login",
  time: "2026-11-20T10:00:00Z",
  user_id: "ada",
  id: "typescript:1",
};
const sent = await fetch(`${url}/v1/events`, { method: "POST", headers, body: JSON.stringify(event) });
const taken = (await sent.json()) as components["schemas"]["Taken"];
const overview = await get("/v1/overview", "?date=2026-11-20");
const logins = await get("/v1/logins", "?from=2026-11-20&to=2026-11-20");
const daily = await get("/api/v2/stats/daily");
console.log(
  JSON.stringify({
    accepted: taken.accepted,
    users: overview.dau.value,
    failed: logins.items.map((item) => item.failed),
    signups: daily.map((day) => day.signups),
  }),
);
