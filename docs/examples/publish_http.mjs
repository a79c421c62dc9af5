// Sends one event over HTTP. Sending it again is safe: events with the same id count once.
const time = new Date().toISOString();
const event = { type: "login", time, user_id: "ada", realm: "acme", id: "shop:4711" };
const answer = await fetch(`${process.env.AUTHTALLY_URL}/v1/events`, {
  method: "POST",
  headers: { Authorization: `Bearer ${process.env.AUTHTALLY_TOKEN}`, "Content-Type": "application/json" },
  body: JSON.stringify(event),
});
console.log(await answer.text());
if (answer.status !== 202) process.exit(1);
