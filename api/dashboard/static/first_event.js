// The help of an empty installation: how to send the first event to this deployment.

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
    ways.push(make("p", {}, "Sending over HTTP is off; ", code("AUTHTALLY_INGEST=on"), " enables it."));
  }
  ways.push(
    way("With this project's command, on a host with the Kafka settings:", `echo '${event}' | authtally publish -`),
    way("With Kafka's own console producer:", `echo '${JSON.stringify(bare)}' |\n  kafka-console-producer.sh --bootstrap-server <broker> --topic ${topic}`),
  );
  place.replaceChildren(
    make("h2", {}, "No event was counted yet"),
    make("p", {}, "The ledger is empty. A worker counts the events in its topics; then this page shows them without a reload."),
    ...ways,
    make("p", {}, "If Kafka already has events and none are counted, ", code("authtally doctor"), " shows the reason."),
  );
}

const code = (text) => make("code", {}, text);
const way = (words, command) => make("div", {}, make("p", {}, words), make("pre", { tabindex: "0" }, code(command)));
