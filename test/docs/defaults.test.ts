/** The tables of README and docs: defaults, metrics and log lines are those of the code. */
import { MemoryTransport, Metrics, PublishError, RetryPolicy, Subscription, Topic, Transport } from "@clutch/core"
import { Faults } from "@clutch/core/conformance"
import { layerTest } from "@clutch/core/testing"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber, Layer, Result, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { globSync, readFileSync } from "node:fs"
import { make } from "../../packages/core/src/internal/policy.ts"

const root = new URL("../../", import.meta.url)
const read = (file: string): string => readFileSync(new URL(file, root), "utf8")

/** The first two cells of each row of the table that follows `header`. */
const table = (file: string, header: string): ReadonlyMap<string, string> => {
  const text = read(file)
  const from = text.indexOf(header)
  assert.isAtLeast(from, 0, `${file} has no table "${header}"`)
  const lines = text.slice(from).split("\n").slice(2)
  const end = lines.findIndex((line) => !line.startsWith("|"))
  return new Map(
    lines.slice(0, end).map((line) => {
      const [name = "", value = ""] = line
        .slice(1, -1)
        .split(" | ")
        .map((cell) => cell.trim())
      return [name.replaceAll("`", ""), value.replaceAll("`", "")]
    })
  )
}

/** A default of the code in the words of the docs. */
const words = (value: unknown): string => {
  if (value === undefined) return "none"
  if (Duration.isDuration(value)) {
    const millis = Duration.toMillis(value)
    const units = [
      ["hour", 3_600_000],
      ["minute", 60_000],
      ["second", 1000]
    ] as const
    const [unit, size] = units.find(([, size]) => millis >= size) ?? ["ms", 1]
    return `${millis / size} ${unit}${millis === size ? "" : "s"}`
  }
  return JSON.stringify(value)
}

/** The text that the code falls back to: `name ?? "10 seconds"`. */
const fallback = (file: string, expression: string): string => {
  const found = new RegExp(`${expression.replaceAll(/[.?()]/g, "\\$&")} \\?\\? ("[^"]*"|[\\d.]+)`).exec(read(file))
  assert.isNotNull(found, `${file} has no default of ${expression}`)
  return found[1] ?? ""
}

describe("the defaults in README and docs", () => {
  it("are those of a subscription without options", () => {
    const policy = Result.getOrThrow(make({}, "each"))
    const { retry: _own, ...told } = Object.fromEntries(table("README.md", "| option | default | meaning |"))
    // words of their own: what adapts, and a name that is made
    assert.strictEqual(policy.prefetch, undefined)
    assert.strictEqual(policy.consumer, undefined)
    assert.deepStrictEqual(told, {
      concurrency: words(policy.concurrency),
      prefetch: "adaptive",
      maxWaiting: policy.maxWaiting.toLocaleString("en"),
      ack: words(policy.ack),
      deadLetters: words(policy.deadLetters),
      onDeadLetter: words(policy.onDeadLetter),
      timeout: words(policy.timeout),
      visibilityTimeout: words(policy.visibilityTimeout),
      drainTimeout: words(policy.drainTimeout),
      maxLease: words(policy.maxLease),
      from: words(policy.from),
      consumer: "unique",
      ownConnection: words(policy.ownConnection)
    })
  })

  it("are those of a retry policy", () => {
    const policy = Result.getOrThrow(RetryPolicy.make())
    const told = Object.fromEntries(table("docs/guide.md", "| option of `retry` | default | meaning |"))
    assert.deepStrictEqual(told, {
      ...Object.fromEntries(Object.entries(policy).map(([name, value]) => [name, words(value)])),
      while: "all"
    })
  })

  it.effect("are those of publish: an outage is waited for so long, and no longer", () => {
    const told = table("docs/guide.md", "| `id` | the entry's id |").get("timeout") ?? ""
    const outage = Layer.effect(
      Transport,
      Effect.map(Transport, (self) => Faults.wrap(self, ({ operation }) => Effect.fail(Faults.unavailable(operation))))
    ).pipe(Layer.provide(MemoryTransport.layerTransport))
    return Effect.gen(function* () {
      const begun = yield* Clock.currentTimeMillis
      const publishing = yield* Effect.forkChild(
        Effect.flip(Topic.publish(Topic.make("orders", { schema: Schema.String }), "o-1")).pipe(
          Effect.flatMap((error) => Effect.map(Clock.currentTimeMillis, (now) => ({ error, waited: now - begun })))
        )
      )
      yield* TestClock.adjust("1 minute")
      const { error, waited } = yield* Fiber.join(publishing)
      assert.instanceOf(error, PublishError)
      assert.strictEqual(words(Duration.millis(waited)), told)
    }).pipe(Effect.provide(outage))
  })

  it("are those of the Redis client", () => {
    const told = table("docs/operations.md", "| option | default | meaning |")
    const client = "packages/redis/src/RedisClient.ts"
    for (const option of ["connectTimeout", "commandTimeout", "keepAlive"]) {
      assert.strictEqual(`"${told.get(option) ?? ""}"`, fallback(client, `options.${option}`), option)
    }
    assert.strictEqual(told.get("connectionName"), fallback(client, "options.connectionName"))
    assert.include(
      read("packages/redis/src/RedisTransport.ts"),
      `const defaultNamespace = ${told.get("namespace") ?? "?"}`
    )
    const options = [...read(client).matchAll(/^ {2}readonly (\w+)\??:/gm)].map(([, name]) => name)
    for (const option of told.keys()) if (option !== "namespace") assert.include(options, option)
  })

  it.effect("are those of a stream: so many deliveries are out at once", () => {
    const told = /at\s+once,\s+(\d+)\s+unless\s+you say otherwise/.exec(read("docs/guide.md"))?.[1]
    const orders = Topic.make("orders", { schema: Schema.Int })
    return Effect.gen(function* () {
      yield* Topic.publishAll(
        orders,
        Array.from({ length: 100 }, (_, n) => n)
      )
      let out = 0
      yield* Subscription.stream("audit", orders, { from: "beginning" }).pipe(
        Stream.runForEach(() => Effect.sync(() => void (out += 1))),
        Effect.forkScoped
      )
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(String(out), told)
    }).pipe(Effect.scoped, Effect.provide(layerTest))
  })
})

describe("docs/operations.md", () => {
  it("lists every metric, and no other, each with its kind", () => {
    const told = table("docs/operations.md", "| metric | kind | counts |")
    const made = Object.values(Metrics).map(({ id, type }) => [id, type.toLowerCase()] as const)
    assert.deepStrictEqual(Object.fromEntries(told), Object.fromEntries(made))
  })

  it("quotes log lines that the code writes", () => {
    const sources = globSync("packages/*/src/**/*.ts", { cwd: root })
      .map(read)
      .join("\n")
      // a line in two literals, as it is logged
      .replaceAll(/[`"] \+\n\s*[`"]/g, "")
    const lines = [...read("docs/operations.md").matchAll(/^\| (?:info|warn|error|fatal) \| `([^|]*)` \|/gm)]
    assert.isAbove(lines.length, 15)
    for (const [, line = ""] of lines) {
      // what becomes of a message is put into the line when it is logged
      const parts = line.replace(/^message /, "").split("…")
      for (const part of parts.map((text) => text.replaceAll(/^[: ]+|[: ]+$/g, ""))) {
        assert.include(sources, part, line)
      }
    }
  })
})
