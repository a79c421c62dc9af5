// What an empty installation says: how to send the first event, as this deployment takes them.

import { make } from "./text.js";

const LOGIN = (time) => ({ type: "login", time, user_id: "alice", realm: "acme", client_id: "web" });

/** @param {{ingest: boolean, kafka_topics?: Record<string, string>, sign_in: boolean}} config */
export function firstEvent(config) {
  const place = document.getElementById("first-event");
  if (!place.hidden) return;
  const time = new Date().toISOString().replace(/\.\d+Z$/, "Z");
  const event = JSON.stringify(LOGIN(time));
  const { type, ...bare } = LOGIN(time);
  const topic = config.kafka_topics?.[type] ?? "auth.logins";
  const ways = [];
  if (config.ingest) {
    const authorization = config.sign_in ? ` -H 'Authorization: Bearer <token with events:write>'` : "";
    ways.push(
      way("Over HTTP:", `curl${authorization} -H 'Content-Type: application/json' \\\n  -d '${event}' \\\n  '${location.origin}/v1/events'`),
    );
  } else {
    ways.push(make("p", {}, "Sending over HTTP is off here; ", code("AUTHTALLY_INGEST=on"), " turns it on."));
  }
  ways.push(
    way("With this project's command, where the Kafka settings are:", `echo '${event}' | authtally publish -`),
    way("With Kafka's own console producer:", `echo '${JSON.stringify(bare)}' |\n  kafka-console-producer.sh --bootstrap-server <broker> --topic ${topic}`),
  );
  place.replaceChildren(
    make("h2", {}, "No event was counted yet"),
    make("p", {}, "The ledger is empty. A worker counts what lies in its topics; then this page fills by itself."),
    ...ways,
    make("p", {}, "If events are in Kafka already and nothing comes, ", code("authtally doctor"), " says why."),
  );
}

const code = (text) => make("code", {}, text);
const way = (words, command) => make("div", {}, make("p", {}, words), make("pre", { tabindex: "0" }, code(command)));
