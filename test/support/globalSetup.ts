/**
 * One Redis for all test files of a project, as `inject("redisUrl")` and `inject("place")`: `REDIS_URL` where it
 * is set, else a private server.
 *
 * Tests write under a random namespace of their own and remove it. A test that stops, flushes, fills or cuts a server
 * starts one with `startRedis`.
 */
import type { TestProject } from "vitest/node"
import { startRedis } from "./redis.ts"

declare module "vitest" {
  interface ProvidedContext {
    /** A Redis that is shared: never flush it. */
    readonly redisUrl: string
  }
}

export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  const given = process.env["REDIS_URL"]
  if (given !== undefined && given !== "") {
    project.provide("redisUrl", given)
    project.provide("place", { url: given })
    return undefined
  }
  const server = await startRedis()
  project.provide("redisUrl", server.url)
  project.provide("place", { url: server.url })
  return () => server.stop()
}
