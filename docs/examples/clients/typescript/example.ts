// Signs up, submits a job, waits for its end, and lists: with a client whose types come from docs/openapi.json.
//
//   npm ci
//   npx openapi-typescript ../../../openapi.json -o schema.d.ts
//   npx tsc && API_URL=http://127.0.0.1:8000 node build/example.js
//
// A field or a path that the API does not have is an error of the compiler.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Job = components["schemas"]["Job"];
type Problem = components["schemas"]["Problem"];

const api = createClient<paths>({ baseUrl: process.env.API_URL ?? "http://127.0.0.1:8000" });

/** The answer, or its problem as an exception. */
async function told<T>(answer: Promise<{ data?: T; error?: Problem }>): Promise<T> {
  const { data, error } = await answer;
  if (data === undefined) throw new Error(error ? `${error.status} ${error.code}: ${error.detail}` : "an answer without a body");
  return data;
}

function isEnded(job: Job): boolean {
  return ["succeeded", "dead", "cancelled", "expired"].includes(job.state);
}

/** A long job is asked about again and again; each time the server holds the question for as long as it may. */
async function ended(job: Job): Promise<Job> {
  while (!isEnded(job)) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    job = await told(api.GET("/api/v1/jobs/{id}", { params: { path: { id: job.id } } }));
  }
  return job;
}

const email = `typescript-${crypto.randomUUID()}@example.org`;
const session = await told(api.POST("/api/v1/auth/register", { body: { email, password: `a password of ${crypto.randomUUID()}` } }));
api.use({
  onRequest({ request }) {
    request.headers.set("Authorization", `Bearer ${session.access_token}`);
    return request;
  },
});

const submitted = await told(
  api.POST("/api/v1/jobs", {
    params: { header: { Prefer: "wait=10", "Idempotency-Key": crypto.randomUUID() } },
    body: { kind: "debug.echo", payload: { hello: "from TypeScript" }, tags: ["example"] },
  }),
);
const job = await ended(submitted);
console.log(`${job.kind} ${job.state}: ${JSON.stringify(job.result)}`);

const { items } = await told(api.GET("/api/v1/jobs", { params: { query: { tag: "example", limit: 10 } } }));
if (job.state !== "succeeded" || !items.some((item) => item.id === job.id)) throw new Error("the job did not succeed, or is not listed");

const refused = await api.GET("/api/v1/users");
if (refused.error?.code !== "insufficient_scope") throw new Error("a user read the accounts of all");
console.log(`listed ${items.length}, and was refused what is the administrators'`);
