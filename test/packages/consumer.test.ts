import { readFileSync } from "node:fs"
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest"
import { type Consumer, makeConsumer } from "./consumer.ts"

const program = `
import { Agent, MemoryTransport, Subscription, Topic } from "@clutch/core"
import * as DeepTopic from "@clutch/core/Topic"
import { Effect, Layer, Schema } from "effect"

if (DeepTopic.make !== Topic.make) throw new Error("the deep import is another module")
const Greetings = Topic.make("greetings", { schema: Schema.Struct({ name: Schema.String }) })
const greeter = Subscription.make("greeter", Greetings, ({ data }) =>
  Effect.sync(() => console.log("hello " + data.name))
)
const layer = Agent.layer("greeters", [greeter]).pipe(Layer.provideMerge(MemoryTransport.layer))
await Effect.gen(function*() {
  yield* Topic.publish(Greetings, { name: "world" })
  yield* Subscription.awaitIdle(greeter)
}).pipe(Effect.provide(layer), Effect.runPromise)
`

const tsconfig = (files: ReadonlyArray<string>): string =>
  JSON.stringify({
    compilerOptions: {
      target: "ES2024",
      lib: ["ES2024", "DOM", "DOM.Iterable"],
      module: "NodeNext",
      types: ["node"],
      strict: true,
      exactOptionalPropertyTypes: true,
      skipLibCheck: false,
      noEmit: true
    },
    files
  })

describe("a project outside the workspace", () => {
  let consumer: Consumer
  beforeAll(() => {
    consumer = makeConsumer(inject("tarballs"), { withVitest: true })
    for (const file of ["programs.ts", "illegal.ts"]) {
      consumer.write(file, readFileSync(new URL(`../types/${file}`, import.meta.url), "utf8"))
    }
    consumer.write("main.ts", program)
    consumer.write(
      "entries.ts",
      `export * as testing from "@clutch/core/testing"\nexport * as conformance from "@clutch/core/conformance"\n`
    )
  })
  afterAll(() => consumer?.remove())

  it.each(["main.ts", "programs.ts", "illegal.ts", "entries.ts"])(
    "type-checks %s against the declarations that are packed, with skipLibCheck off",
    (file) => {
      consumer.write("tsconfig.json", tsconfig([file]))
      consumer.run(process.execPath, "node_modules/typescript/bin/tsc", "-p", ".")
    }
  )

  it("runs a program on the in-memory log", () => {
    // beside the line of log that says which subscriptions run
    const lines = consumer.run(process.execPath, "main.ts").trim().split("\n")
    expect(lines.filter((line) => !line.includes("INFO"))).toEqual(["hello world"])
  })

  it("cannot import what is internal", () => {
    for (const [name, folder] of [
      ["core", "internal"],
      ["redis", "internal"],
      ["redis", "scripts"]
    ]) {
      expect(() =>
        consumer.run(process.execPath, "--input-type=module", "--eval", `await import("@clutch/${name}/${folder}/lua")`)
      ).toThrow(/ERR_PACKAGE_PATH_NOT_EXPORTED/)
    }
  })
})
