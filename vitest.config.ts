/**
 * Six projects, so that each can be run by itself: `vitest run --project unit`.
 *
 * What is not named by another project is "unit": a new test file cannot be left out by accident.
 */
import { availableParallelism } from "node:os"
import { configDefaults, defineConfig } from "vitest/config"

const redis = ["test/{redis,cases,faults,support,examples,bench}/**/*.test.ts", "test/conformance/redis*.test.ts"]
// what is measured is measured when nothing else runs
const quiet = ["test/{redis,cases}/{latency,idle}.test.ts", "test/{growth,soak}/*.test.ts"]
// several servers each, and failovers that must not come from want of a processor
const cluster = ["test/cluster/**/*.test.ts", "test/conformance/cluster.test.ts", "test/{redis,cases}/**/*.test.ts"]
// what does not fit a cluster; the rest of these folders runs on both
const singleServer = [
  // no server, or only its documentation
  "test/redis/{Codec,RedisKeys,commands,docs-keys,looks,redirects,topology}.test.ts",
  "test/cases/{cases,keys}.test.ts",
  // scripts are called one by one, all on one connection; random bytes are bytes there, too
  "test/redis/scripts/*.test.ts",
  "test/redis/fuzz/fuzz.test.ts",
  // faults of the connection that hears bells, on a server of its own
  "test/redis/bell.test.ts",
  // connections to one server and options for it, and its replicas: of a cluster they are in test/cluster
  "test/redis/{client,options,replicas,replies,silence}.test.ts",
  "test/cases/connections.test.ts",
  // a proxy or a client that breaks, in the way to one server
  "test/redis/{*.faults,recover}.test.ts",
  "test/cases/{cuts,rollback}.test.ts",
  // what stops one server stops a cluster in part only: see test/cluster
  "test/cases/outages.test.ts"
]
const packages = ["test/packages/**/*.test.ts"]

const globalSetup = ["./test/support/globalSetup.ts"]

export default defineConfig({
  // `ssr`: vitest runs tests as server code, where `resolve.conditions` has no say
  ssr: { resolve: { conditions: ["@clutch/source", "module", "node", "import", "default"] } },
  test: {
    reporters: ["default", "./test/support/reporter.ts"],
    // children of a test (workers, examples) resolve the sources too
    env: { NODE_OPTIONS: "--conditions=@clutch/source" },
    testTimeout: 20_000,
    hookTimeout: 30_000,
    // most tests wait for Redis, and some compute: on two cores, one of each kind runs at a time
    maxWorkers: Math.max(2, availableParallelism() - 1),
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: [...configDefaults.exclude, ...redis, ...quiet, ...cluster, ...packages]
        }
      },
      {
        extends: true,
        test: {
          name: "redis",
          include: redis,
          exclude: [...configDefaults.exclude, ...quiet],
          globalSetup,
          testTimeout: 60_000
        }
      },
      {
        extends: true,
        test: {
          name: "quiet",
          include: quiet,
          globalSetup,
          testTimeout: 120_000,
          fileParallelism: false,
          sequence: { groupOrder: 1 }
        }
      },
      {
        extends: true,
        test: {
          name: "cluster",
          include: cluster,
          exclude: [...configDefaults.exclude, ...quiet, ...singleServer],
          globalSetup: ["./test/support/clusterSetup.ts"],
          testTimeout: 60_000,
          fileParallelism: false,
          sequence: { groupOrder: 2 }
        }
      },
      {
        extends: true,
        test: {
          name: "types",
          include: [],
          typecheck: {
            enabled: true,
            only: true,
            checker: "tsc",
            tsconfig: "./tsconfig.check.json",
            include: ["test/**/*.test-d.ts"]
          }
        }
      },
      // packs, installs and bundles: minutes rather than seconds on a cold machine
      {
        extends: true,
        test: {
          name: "packages",
          include: packages,
          globalSetup: [...globalSetup, "./test/packages/globalSetup.ts"],
          testTimeout: 300_000,
          hookTimeout: 300_000
        }
      }
    ]
  }
})
