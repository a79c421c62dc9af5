// Sends one event to Kafka. The key keeps repeated sends in one partition, where the id counts once.
import kafkajs from "kafkajs";

const event = { time: new Date().toISOString(), user_id: "ada", realm: "acme", id: "shop:4711" };
const client = new kafkajs.Kafka({ clientId: "shop", brokers: [process.env.KAFKA], logLevel: kafkajs.logLevel.ERROR });
const producer = client.producer({ idempotent: true, createPartitioner: kafkajs.Partitioners.DefaultPartitioner });
await producer.connect();
await producer.send({ topic: "auth.logins", acks: -1, messages: [{ key: event.id, value: JSON.stringify(event) }] });
await producer.disconnect();
console.log("acknowledged");
