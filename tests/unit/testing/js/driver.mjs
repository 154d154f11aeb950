// Run the real StackServerApp against a local Stack Auth: a job comes in as JSON, results go out as JSON.
import { text } from "node:stream/consumers";

const job = JSON.parse(await text(process.stdin));
const { StackServerApp } = await import(job.sdk);

function newApp(tokenStore) {
  const { baseUrl, projectId, secretServerKey, publishableClientKey } = job;
  return new StackServerApp({ baseUrl, projectId, secretServerKey, publishableClientKey, tokenStore });
}

function told(user) {
  if (user === null) return null;
  const { id, primaryEmail, displayName, isAnonymous, isRestricted, clientMetadata, serverMetadata } = user;
  return { id, primaryEmail, displayName, isAnonymous, isRestricted, clientMetadata, serverMetadata };
}

async function fromRequest({ headers, options }) {
  const app = newApp(null);
  return told(await app.getUser({ ...options, tokenStore: { headers: new Headers(headers) } }));
}

async function fromMemory({ accessToken, refreshToken }) {
  const app = newApp("memory");
  app._memoryTokenStore.set({ accessToken, refreshToken });
  const user = told(await app.getUser());
  return { user, accessToken: app._memoryTokenStore.get().accessToken };
}

async function byId({ id }) {
  return told(await newApp(null).getUser(id));
}

const ways = { fromRequest, fromMemory, byId };
const results = {};
for (const { name, way, ...asked } of job.cases) {
  try {
    results[name] = { value: await ways[way](asked) };
  } catch (error) {
    results[name] = { error: `${error}`.slice(0, 400) };
  }
}
process.stdout.write(JSON.stringify(results), () => process.exit(0));
