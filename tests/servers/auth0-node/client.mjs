// Asks one question through Auth0's SDK, and prints the answer or the error as one line of JSON.
// Arguments: the SDK (current or legacy), host and port, token, call, and the call's argument as JSON.

import { ManagementClient } from "auth0";
import { ManagementClient as LegacyClient } from "auth0/legacy";

const [sdk, domain, token, call, argument] = process.argv.slice(2);
const options = sdk === "legacy" ? { retry: { enabled: false } } : { maxRetries: 0 };
const Client = sdk === "legacy" ? LegacyClient : ManagementClient;
const stats = new Client({ domain, token, ...options }).stats;

try {
  const answer = await stats[call](JSON.parse(argument ?? "{}"));
  console.log(JSON.stringify({ answer: sdk === "legacy" ? answer.data : answer }));
} catch (error) {
  const body = typeof error.body === "string" ? JSON.parse(error.body) : error.body;
  console.log(JSON.stringify({ error: error.constructor.name, status: error.statusCode, body }));
}
