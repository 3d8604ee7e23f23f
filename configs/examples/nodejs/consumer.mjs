// A consumer of VOD's reliable callback in Node.js 18 or newer, without any package: it pulls, prints and
// confirms. Try it with the emulator:
//
//   vodrelay emulator --uploads 3
//   VOD_ENDPOINT=http://127.0.0.1:9090 VOD_SUB_APP_ID=1500000001 \
//   TENCENTCLOUD_SECRET_ID=emulator-secret-id TENCENTCLOUD_SECRET_KEY=emulator-secret-key \
//   node configs/examples/nodejs/consumer.mjs
//
// With POLLS=2 it ends after two empty answers. It shows the calls, and no more: what vodrelay has beyond it is
// a store for what cannot be handled at once, several pollers, retries within the lease, and an ordered stop.
import { createHash, createHmac } from "node:crypto";

const endpoint = new URL(process.env.VOD_ENDPOINT ?? "https://vod.tencentcloudapi.com");
const subAppId = Number(process.env.VOD_SUB_APP_ID);
const { TENCENTCLOUD_SECRET_ID: secretId, TENCENTCLOUD_SECRET_KEY: secretKey } = process.env;
const polls = Number(process.env.POLLS ?? Infinity);

const sha256 = (text) => createHash("sha256").update(text).digest("hex");
const hmac = (key, text) => createHmac("sha256", key).update(text).digest();

// sign is TC3-HMAC-SHA256, https://www.tencentcloud.com/document/product/267/37447. Like the vendor's Node.js SDK it
// signs the host without a port, though the Host header has one.
function sign(body, timestamp) {
  const headers = `content-type:application/json\nhost:${endpoint.hostname}\n`;
  const canonical = `POST\n/\n\n${headers}\ncontent-type;host\n${sha256(body)}`;
  const date = new Date(timestamp * 1000).toISOString().slice(0, 10);
  const scope = `${date}/vod/tc3_request`;
  const text = `TC3-HMAC-SHA256\n${timestamp}\n${scope}\n${sha256(canonical)}`;
  const key = ["vod", "tc3_request"].reduce(hmac, hmac(`TC3${secretKey}`, date));
  const signature = hmac(key, text).toString("hex");
  return `TC3-HMAC-SHA256 Credential=${secretId}/${scope}, SignedHeaders=content-type;host, Signature=${signature}`;
}

// call returns the reply's Response; every error of the API has a Code.
async function call(action, parameters) {
  const body = JSON.stringify({ SubAppId: subAppId, ...parameters });
  const timestamp = Math.floor(Date.now() / 1000);
  const reply = await fetch(endpoint, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      Authorization: sign(body, timestamp),
      "X-TC-Action": action,
      "X-TC-Version": "2018-07-17",
      "X-TC-Timestamp": String(timestamp),
    },
    body,
    signal: AbortSignal.timeout(15_000), // VOD holds PullEvents for 5 s
  });
  const { Response } = await reply.json();
  if (Response.Error) {
    throw Object.assign(new Error(`${action}: ${Response.Error.Code}: ${Response.Error.Message}`), { code: Response.Error.Code });
  }
  return Response;
}

for (let empty = 0; empty < polls; ) {
  let events = [];
  try {
    events = (await call("PullEvents")).EventSet ?? [];
  } catch (err) {
    if (err.code !== "ResourceNotFound") throw err; // an empty queue
  }
  if (events.length === 0) {
    empty++;
    continue;
  }
  for (const { EventHandle, ...event } of events) {
    console.log(JSON.stringify(event));
  }
  // Only what is safe elsewhere may be confirmed, and within 30 s: then it is gone from the queue.
  await call("ConfirmEvents", { EventHandles: events.map((event) => event.EventHandle) });
}
