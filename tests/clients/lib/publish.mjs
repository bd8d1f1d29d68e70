import assert from "node:assert/strict";

/// Publishes by POST and returns the event's id.
export async function publish(http, topic, data, { event, headers } = {}) {
  const query = new URLSearchParams({ topic, ...(event === undefined ? {} : { event }) });
  const answer = await fetch(`${http}/publish?${query}`, { method: "POST", body: data, headers });
  assert.equal(answer.status, 202);
  return (await answer.json()).id;
}
