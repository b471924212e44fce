/** The demo runs on both logs, tells the truth about real data, and can be stopped. */
import { Datasets, Feeds, Flight, Quake, Strike } from "@clutch/examples/data"
import { fate } from "@clutch/examples/downstream"
import { Ledger } from "@clutch/examples/ledger"
import { progress } from "@clutch/examples/report"
import * as Subscriptions from "@clutch/examples/subscriptions"
import { assert, it as effectIt } from "@effect/vitest"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Exit, Layer, Schema, Terminal } from "effect"
import { TerminalCapabilities } from "effect/cli"
import { TestClock } from "effect/testing"
import { afterEach, beforeAll, beforeEach, describe, expect, inject, it } from "vitest"
import { startRedis } from "../support/redis.ts"
import { keysOf, randomNamespace, removeNamespace } from "./namespace.ts"
import { type Ended, run, start } from "./program.ts"

interface Row {
  readonly published: number
  readonly filtered: number
  readonly handled: number
  readonly exhausted: number
  readonly notRetryable: number
  readonly poison: number
  readonly rejected: number
}

/** The numbers of one subscription in the printed table. */
const rowOf = (stdout: string, subscription: string): Row & { readonly retried: number } => {
  const line = stdout.split("\n").find((line) => line.startsWith(`${subscription} `)) ?? ""
  const numbers = line
    .split(/\s+/)
    .slice(2)
    .map((cell) => Number(cell.replaceAll(",", "")))
  const [published, filtered, handled, retried, exhausted, notRetryable, poison, rejected] = numbers
  const of = (n: number | undefined) => n ?? Number.NaN
  return {
    published: of(published),
    filtered: of(filtered),
    handled: of(handled),
    retried: of(retried),
    exhausted: of(exhausted),
    notRetryable: of(notRetryable),
    poison: of(poison),
    rejected: of(rejected)
  }
}

/** What must come out, worked out from the files and the downstream's rule alone: nothing of Clutch is asked. */
const expected = async (records: number): Promise<Readonly<Record<string, Row>>> => {
  const { flights, strikes, quakes, airports } = await Effect.runPromise(
    Datasets.pipe(Effect.provide(Datasets.layer.pipe(Layer.provide(NodeServices.layer))))
  )
  const decode = <A>(schema: Schema.Codec<A, unknown>, rows: ReadonlyArray<unknown>): ReadonlyArray<A> =>
    rows.slice(0, records).flatMap((row) => {
      const exit = Schema.decodeUnknownExit(schema)(row)
      return Exit.isSuccess(exit) ? [exit.value] : []
    })
  const row = (rest: Partial<Row> & { readonly published: number }): Row => {
    const { published, filtered = 0, exhausted = 0, notRetryable = 0, poison = 0, rejected = 0 } = rest
    const handled = published - filtered - exhausted - notRetryable - poison - rejected
    return { published, filtered, handled, exhausted, notRetryable, poison, rejected }
  }
  const fates = (keys: ReadonlyArray<string>) => ({
    exhausted: keys.filter((key) => {
      const end = fate(key)
      return end._tag === "Outage" && end.calls === Infinity
    }).length,
    notRetryable: keys.filter((key) => fate(key)._tag === "Refused").length
  })

  const flown = decode(Flight, flights)
  const stateless = flown.filter(({ origin, destination }) =>
    [origin, destination].some((iata) => airports.get(iata)?.state === "NA")
  ).length
  const late = flown.filter(({ delay }) => delay >= 60)
  const struck = decode(Strike, strikes)
  const published = strikes.slice(0, records).length
  const costly = struck.filter(({ cost, damage }) => damage !== "None" || cost > 0)
  const contradictory = costly.filter(({ damage }) => damage === "None").length
  const shaken = decode(Quake, quakes)
  const felt = shaken.filter(({ properties }) => properties.mag >= 2.5)

  const claims = fates(
    late.map(({ date, destination, origin }) => `claim ${date.epochMilliseconds} ${origin}-${destination}`)
  )
  const repairs = fates(
    costly
      .filter(({ damage }) => damage !== "None")
      .map(({ aircraft, airport, cost, date, species }) => `repair ${date} ${airport} ${aircraft} ${species} ${cost}`)
  )
  return {
    legs: row({ published: flown.length, notRetryable: stateless }),
    claims: row({ published: flown.length, filtered: flown.length - late.length, ...claims }),
    "delays-by-state": row({ published: flown.length - stateless }),
    "strikes-by-species": row({ published, poison: published - struck.length }),
    repairs: row({
      published,
      filtered: struck.length - costly.length,
      poison: published - struck.length,
      exhausted: repairs.exhausted,
      notRetryable: repairs.notRetryable + contradictory
    }),
    catalogue: row({
      published: shaken.length,
      rejected: shaken.filter(({ properties }) => properties.type !== "earthquake").length
    }),
    alerts: row({
      published: shaken.length,
      filtered: shaken.length - felt.length,
      ...fates(felt.map(({ id }) => `alert ${id}`))
    })
  }
}

const checked = (ended: Ended, rows: Readonly<Record<string, Row>>): void => {
  expect(ended.stderr).toBe("")
  for (const [name, row] of Object.entries(rows)) {
    const { retried, ...rest } = rowOf(ended.stdout, name)
    expect({ name, ...rest }).toEqual({ name, ...row })
    // the ones whose downstream fails are retried, the others never
    if (["claims", "repairs", "alerts"].includes(name)) expect(retried).toBeGreaterThan(0)
    else expect(retried).toBe(0)
  }
  expect(ended.stdout).toContain("accounts   every message is handled, filtered out or a dead letter")
  expect(ended.stdout.match(/^isolation .* none of it reached .* none a retry$/gm)).toHaveLength(3)
  expect(ended.code).toBe(0)
}

describe("demo in memory", () => {
  it("streams all records, and its table agrees with the files", async () => {
    const ended = await run("demo")
    const rows = await expected(Infinity)
    // the dirt that these numbers stand for is really there
    expect(rows["strikes-by-species"]).toMatchObject({ published: 10_000, poison: 15 })
    expect(rows["catalogue"]).toMatchObject({ published: 1707, rejected: 28 })
    expect(rows["legs"]).toMatchObject({ published: 10_000, notRetryable: 1 })
    checked(ended, rows)
  })

  it("prints plain lines of progress where there is no terminal", async () => {
    const { stdout } = await run("demo", ["--records", "100"])
    expect(stdout).toMatch(/^published 300\/300 · handled \d+ · retried \d+$/m)
    expect(stdout).not.toContain("\r")
  })

  it("on SIGINT drains, reports what was done, and exits with 130", async () => {
    const demo = start("demo")
    await demo.prints("published ")
    demo.signal("SIGINT")
    const { code, stdout, stderr } = await demo.ended
    expect(stderr).toBe("")
    expect(code).toBe(130)
    expect(stdout).toContain("interrupted: what was in flight is done or given back")
    expect(rowOf(stdout, "legs").published).toBeLessThanOrEqual(10_000)
  })
})

describe("demo's progress on a terminal", () => {
  effectIt.effect("is one line, rewritten, and cut at the terminal's width", () =>
    Effect.gen(function* () {
      const shown: Array<string> = []
      const terminal = Terminal.make({
        columns: Effect.succeed(40),
        rows: Effect.succeed(24),
        size: Effect.die("unused"),
        readInput: Effect.die("unused"),
        readLine: Effect.die("unused"),
        display: (text) => Effect.sync(() => void shown.push(text))
      })
      yield* Effect.gen(function* () {
        const ledger = yield* Ledger
        yield* progress(Subscriptions.all, [{ topic: Feeds.flights, rows: [{}, {}] }])
        yield* TestClock.adjust("100 millis")
        yield* ledger.published("flights", 2)
        yield* TestClock.adjust("100 millis")
      }).pipe(
        Effect.scoped,
        Effect.provide(Ledger.layer),
        Effect.provideService(Terminal.Terminal, terminal),
        Effect.provideService(TerminalCapabilities.TerminalCapabilities, {
          canAnimate: true,
          canColor: false,
          canPrompt: false
        })
      )
      assert.strictEqual(shown.at(-1), "\n")
      const lines = shown.slice(0, -1)
      assert.isTrue(lines.every((line) => line.startsWith("\r\u001b[2K") && line.length <= 4 + 1 + 39))
      assert.strictEqual(lines[0]?.slice(5), "published 0/2 · handled 0 · retried 0")
      assert.strictEqual(lines.at(-1)?.slice(5), "published 2/2 · handled 0 · retried 0")
      assert.isTrue(lines.length >= 3)
    })
  )
})

describe("demo on Redis", () => {
  let namespace: string
  beforeEach(() => {
    namespace = randomNamespace()
  })
  afterEach(() => removeNamespace(inject("redisUrl"), namespace))

  it("is the same program: the same table, and the keys are kept under the namespace it names", async () => {
    const ended = await run("demo", ["--redis", inject("redisUrl"), "--namespace", namespace])
    checked(ended, await expected(Infinity))
    expect(ended.stdout).toContain(`namespace ${namespace}`)
    expect(ended.stdout).toContain(`kept       everything is in Redis under ${namespace}.*`)
    const keys = await keysOf(inject("redisUrl"), namespace)
    expect(keys).toContain(`${namespace}.{flights}`)
    expect(keys.filter((key) => /(retry|dlq|due)\..*(retry|dlq|due)/.test(key))).toEqual([])
  })

  it("run twice in one namespace counts its own records only", async () => {
    const rows = await expected(200)
    for (let round = 0; round < 2; round++) {
      checked200(await run("demo", ["--redis", inject("redisUrl"), "--namespace", namespace, "--records", "200"]), rows)
    }
  })

  it("on SIGINT drains, says where the rest is, and exits with 130", async () => {
    const demo = start("demo", ["--redis", inject("redisUrl"), "--namespace", namespace])
    await demo.prints("published ")
    demo.signal("SIGINT")
    const { code, stdout, stderr } = await demo.ended
    expect(stderr).toBe("")
    expect(code).toBe(130)
    expect(stdout).toContain("interrupted")
    expect(stdout).toContain(`under ${namespace}.*`)
  })
})

/** Two hundred records need not meet every kind of failure. */
const checked200 = (ended: Ended, rows: Readonly<Record<string, Row>>): void => {
  expect({ code: ended.code, stderr: ended.stderr }).toEqual({ code: 0, stderr: "" })
  for (const [name, row] of Object.entries(rows)) {
    expect({ name, ...rowOf(ended.stdout, name) }).toMatchObject({ name, ...row })
  }
}

describe("demo's command line", () => {
  let deadUrl: string
  beforeAll(async () => {
    const server = await startRedis()
    deadUrl = server.url
    await server.stop()
  })

  it("says in one line that a Redis is not there, and exits with 1", async () => {
    const { code, stdout, stderr } = await run("demo", ["--redis", deadUrl])
    expect(code).toBe(1)
    expect(stdout).not.toContain("kept")
    expect(stderr.trim().split("\n")).toHaveLength(1)
    expect(stderr).toContain(new URL(deadUrl).host)
  })

  it("never shows the password of a URL", async () => {
    const { host } = new URL(deadUrl)
    const { stdout, stderr } = await run("demo", ["--redis", `redis://user:sesame@${host}`])
    expect(stdout + stderr).toContain(host)
    expect(stdout + stderr).not.toContain("sesame")
  })

  it("refuses a flag that does not exist and suggests the one that does", async () => {
    const { code, stderr } = await run("demo", ["--rediss", deadUrl])
    expect(code).toBe(1)
    expect(stderr).toContain("--rediss")
    expect(stderr).toContain("--redis")
  })

  it.each([
    [["--redis", "127.0.0.1:6379"], "redis://host:port"],
    [["--namespace", "x"], "--namespace needs --redis"],
    [["--records", "0"], "at least 1"],
    [["--records", "many"], "records"]
  ])("refuses %j and says why", async (args, why) => {
    const { code, stderr } = await run("demo", args)
    expect(code).toBe(1)
    expect(stderr).toContain(why)
  })

  it("explains itself with --help", async () => {
    const { code, stdout, stderr } = await run("demo", ["--help"])
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
    for (const flag of ["--redis", "--namespace", "--records", "--verbose"]) expect(stdout).toContain(flag)
  })
})
