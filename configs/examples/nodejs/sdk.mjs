// The same with the vendor's SDK: npm install tencentcloud-sdk-nodejs-vod, and run it as consumer.mjs. The SDK takes
// the service's name from the first label of the endpoint and signs the host without its port; the emulator accepts
// both, so that any address will do.
import tencentcloud from "tencentcloud-sdk-nodejs-vod";

const endpoint = new URL(process.env.VOD_ENDPOINT ?? "https://vod.tencentcloudapi.com");
const SubAppId = Number(process.env.VOD_SUB_APP_ID);
const client = new tencentcloud.vod.v20180717.Client({
  credential: { secretId: process.env.TENCENTCLOUD_SECRET_ID, secretKey: process.env.TENCENTCLOUD_SECRET_KEY },
  region: "",
  profile: { httpProfile: { protocol: `${endpoint.protocol}//`, endpoint: endpoint.host, reqTimeout: 15 } },
});

try {
  const { EventSet } = await client.PullEvents({ SubAppId });
  for (const { EventHandle, ...event } of EventSet) console.log(JSON.stringify(event));
  await client.ConfirmEvents({ SubAppId, EventHandles: EventSet.map((event) => event.EventHandle) });
} catch (err) {
  if (err.code !== "ResourceNotFound") throw err;
  console.error("the queue is empty");
}
