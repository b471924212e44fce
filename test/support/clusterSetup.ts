/**
 * One Redis Cluster for all test files of a project, as `inject("place")`: three masters with a replica each.
 *
 * The files run one after the other, so that a test may flush or fill it if it makes good for that. A test that stops or
 * moves something starts its own cluster.
 */
import type { TestProject } from "vitest/node"
import { startCluster } from "./cluster.ts"

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const cluster = await startCluster()
  project.provide("place", { url: "redis://cluster", cluster: { nodes: cluster.nodes } })
  return () => cluster.stop()
}
