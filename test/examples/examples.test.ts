/** The short examples do what their head says. */
import { describe, expect, it } from "vitest"
import { run } from "./program.ts"

describe("quick start", () => {
  it("handles the message it publishes, and ends", async () => {
    const { code, stdout, stderr } = await run("quick-start")
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
    expect(stdout.trim().split("\n").at(-1)).toBe("order o-1: charge 42")
  })
})

describe("typed errors", () => {
  it("decide whether there is another attempt, and when", async () => {
    const { code, stdout, stderr } = await run("typed-errors")
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
    const of = (id: string) => stdout.split("\n").filter((line) => line.includes(`order-${id}`))
    expect(of("good")).toEqual(["order-good attempt 1: charged"])
    expect(of("shaky")).toEqual(["order-shaky attempt 1: card service answered 503", "order-shaky attempt 2: charged"])
    expect(of("busy")).toEqual(["order-busy attempt 1: card service answered 429", "order-busy attempt 2: charged"])
    expect(of("down")).toEqual([
      "order-down attempt 1: card service answered 500",
      "order-down attempt 2: card service answered 500",
      "order-down attempt 3: card service answered 500",
      "dead letter order-down: exhausted after 3 attempt(s)"
    ])
    expect(of("expired")).toEqual([
      "order-expired attempt 1: card service answered 402",
      "dead letter order-expired: notRetryable after 1 attempt(s)"
    ])
    expect(of("stolen")).toEqual(["dead letter order-stolen: notRetryable after 1 attempt(s)"])
  })
})

describe("tracing", () => {
  it("prints one trace from publish through the retry to the dead letter", async () => {
    const { code, stdout, stderr } = await run("tracing")
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
    const traces = stdout.match(/^trace [0-9a-f]{32}$/gm)
    expect(traces).toHaveLength(1)
    expect(stdout).toContain(`dead letter of ${traces?.[0]}`)
    const depth = (line: string) => (line.length - line.trimStart().length) / 2
    const spans = stdout
      .split("\n")
      .filter((line) => line.startsWith(" "))
      .map((line) => ({ depth: depth(line), name: line.trim().split(" (")[0], line }))
    expect(spans[0]).toMatchObject({ depth: 1, name: "checkout" })
    expect(spans[1]).toMatchObject({ depth: 2, name: "send orders" })
    const attempts = spans.filter(({ name }) => name === "process orders")
    expect(attempts).toHaveLength(2)
    for (const attempt of attempts) expect(attempt.line).toContain("(consumer, failed)")
    expect(attempts[0]?.line).toContain("messaging.destination.name=orders ")
    expect(attempts[1]?.line).toMatch(/messaging\.destination\.name=\S*billing\Wretry /)
    expect(spans.filter(({ name }) => name === "charge")).toHaveLength(2)
  })
})
