/** The docs' key names are those the code makes. */
import { RedisKeys } from "@clutch/redis"
import { assert, describe, it } from "@effect/vitest"
import { existsSync, globSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../../", import.meta.url))

/** Every text that a reader takes key names from. */
const documents = (): ReadonlyArray<string> => {
  const found = globSync(["README.md", "CONTRIBUTING.md", "docs/**/*.md", "packages/*/README.md"], {
    cwd: root,
    exclude: (name) => name.includes("node_modules")
  })
  return [...found, "packages/redis/src/RedisKeys.ts"].filter((file) => existsSync(root + file))
}

/** `clutch.{orders}.billing.retry` and the like: namespace, hash tag, ending. */
const keyName = /\b([a-z][\w-]*)\.\{([\w.-]+?)(?:\/(\d+))?\}((?:\.[\w-]+)*)/g

const endings = ["retry", "due", "dlq", "state", "blocked", "parked", "owners"]

/** Whether the code makes this key of the names that it shows. */
const isMade = (key: string, namespace: string, topic: string, partition: number, rest: string): boolean => {
  const log = RedisKeys.log(namespace, { topic, partition })
  if ([log.main, log.bell, log.groups, RedisKeys.topic(namespace, topic).meta].includes(key)) return true
  const parts = rest.slice(1).split(".")
  const subscription = (endings.includes(parts.at(-1) ?? "") ? parts.slice(0, -1) : parts).join(".")
  const group = RedisKeys.group(namespace, { topic, partition, subscription })
  const made = [group.retry, group.due, group.deadLetters, group.state, group.blocked, group.parked, group.owners]
  return made.includes(key)
}

describe("key names", () => {
  it("in the docs are those the code makes", () => {
    let seen = 0
    for (const file of documents()) {
      const text = readFileSync(root + file, "utf8")
      for (const [key, namespace = "", topic = "", partition = "0", rest = ""] of text.matchAll(keyName)) {
        seen += 1
        assert.isTrue(isMade(key, namespace, topic, Number(partition), rest), `${file}: ${key}`)
      }
    }
    assert.isAtLeast(seen, 6, "keys are named somewhere")
  })

  it("are those of the contract: a topic's keys share its hash tag, a partition has a tag of its own", () => {
    const keys = RedisKeys.group("clutch", { topic: "orders", partition: 0, subscription: "billing" })
    assert.deepStrictEqual(keys, {
      main: "clutch.{orders}",
      bell: "clutch.{orders}.bell",
      groups: "clutch.{orders}.groups",
      retry: "clutch.{orders}.billing.retry",
      due: "clutch.{orders}.billing.due",
      deadLetters: "clutch.{orders}.billing.dlq",
      state: "clutch.{orders}.billing.state",
      blocked: "clutch.{orders}.billing.blocked",
      parked: "clutch.{orders}.billing.parked",
      owners: "clutch.{orders}.billing.owners",
      mainGroup: "billing",
      retryGroup: "billing-retry"
    })
    const partitioned = RedisKeys.group("clutch", { topic: "orders", partition: 3, subscription: "billing" })
    assert.strictEqual(partitioned.main, "clutch.{orders/3}")
    assert.strictEqual(partitioned.retry, "clutch.{orders/3}.billing.retry")
  })

  it("goes red on a name that the code does not make", () => {
    assert.isFalse(isMade("clutch.{orders}.billing.retry.retry.x", "clutch", "orders", 0, ".billing.retry.retry.x"))
    assert.isFalse(isMade("clutch.{orders}.billing", "clutch", "orders", 0, ".billing"))
    assert.isTrue(isMade("clutch.{orders}.billing.dlq", "clutch", "orders", 0, ".billing.dlq"))
  })
})
