/**
 * One Redis Cluster for all test files of a project, as `inject("clusterNodes")`: three masters with a replica each.
 *
 * Tests write under a random namespace of their own. A test that stops or moves something starts its own cluster.
 */
import type { TestProject } from "vitest/node"
import { startCluster } from "./cluster.ts"

declare module "vitest" {
  interface ProvidedContext {
    /** A cluster that is shared: no failovers, no moves. */
    readonly clusterNodes: ReadonlyArray<{ readonly host: string; readonly port: number }>
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const cluster = await startCluster()
  project.provide("clusterNodes", cluster.nodes)
  return () => cluster.stop()
}
