/** A script's header is its contract: what it says of keys and arguments is what the wrapper sends. */
import * as RedisKeys from "@clutch/redis/RedisKeys"
import * as Scripts from "@clutch/redis/Scripts"
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { assert, describe, test } from "vitest"
import { held, keys, member, ordered, park, retry } from "./harness.ts"

const folder = fileURLToPath(new URL("../../../packages/redis/src/scripts/", import.meta.url))
const text = (name: string): string => readFileSync(`${folder}${name}.lua`, "utf8")

/** The lines of one section of the header, as one text without what stands in brackets. */
const section = (lua: string, title: string): string => {
  const lines = lua.split("\n")
  const from = lines.findIndex((line) => line.startsWith(`-- ${title}`))
  assert.isAtLeast(from, 0, `the header has no ${title}`)
  const to = lines.findIndex((line, i) => i > from && !line.startsWith("--         "))
  return lines
    .slice(from, to)
    .map((line) => line.slice(10))
    .join(" ")
    .replaceAll(/\([^)]*\)/g, "")
}

/** `1 main, 2 bell, 3.. id, count` as `["main", "bell", "id", "count"]`, after checking the numbers. */
const names = (words: string): ReadonlyArray<string> => {
  let next = 1
  return words
    .split(",")
    .map((word) => word.trim())
    .filter((word) => word !== "")
    .map((word) => {
      const parts = /(?:(\d+)(?:\.\.)? )?(\w+)$/.exec(word)
      assert.isNotNull(parts, `"${word}" names nothing`)
      if (parts?.[1] !== undefined) assert.strictEqual(Number(parts[1]), next, `number of "${word}"`)
      next++
      return parts?.[2] ?? ""
    })
}

const topic = RedisKeys.topic("clutch", "orders")

const samples: Readonly<
  Record<string, { readonly keys: ReadonlyArray<string>; readonly args: ReadonlyArray<unknown> }>
> = {
  publish: sample(Scripts.publish, {
    keys,
    entries: [["data", "{}"]],
    retention: { maxLength: undefined, maxAge: undefined }
  }),
  join: sample(Scripts.join, { ...member("a"), visibilityTimeout: 1, from: "new", mode: "first" }),
  rollback: sample(Scripts.rollback, member("a")),
  leave: sample(Scripts.leave, member("a")),
  ack: sample(Scripts.ack, { ...member("a"), origin: "main", held: held(["1-0"]), repeated: false }),
  fail: sample(Scripts.fail, { keys, consumer: "a", origin: "main", failures: [retry("1-0", 1)] }),
  release: sample(Scripts.release, { keys, consumer: "a", origin: "main", held: held(["1-0"]) }),
  extend: sample(Scripts.extend, { ...member("a"), main: held(["1-0"]), retry: [] }),
  rest: sample(Scripts.rest, { keys, consumer: "a" }),
  mark: sample(Scripts.mark, { keys, consumer: "a", origin: "main", started: "1-0" }),
  take: sample(Scripts.take, { keys, consumer: "a", count: 1, bytes: 1, alone: false, maxAttempts: 6 }),
  tend: sample(Scripts.tend, { keys, scan: true, cursor: undefined }),
  redrive: sample(Scripts.redrive, { keys, ids: ["1-0"], delay: 0 }),
  trim: sample(Scripts.trim, { keys, missing: [{ name: "billing", state: keys.state }] }),
  remove: sample(Scripts.remove, { keys }),
  roster: sample(Scripts.roster, member("a")),
  claim: sample(Scripts.claim, member("a")),
  cede: sample(Scripts.cede, member("a")),
  draw: sample(Scripts.draw, {
    ...member("a"),
    count: 1,
    bytes: 1,
    alone: false,
    maxAttempts: 6,
    retries: 1,
    mains: 1
  }),
  order: sample(Scripts.order, { ...member("a"), acks: ["1-0"], items: [ordered("2-0", park("2-0"))] }),
  partitions: sample(Scripts.partitions, { keys: topic, count: 2, from: undefined })
}

function sample<Input>(
  script: {
    readonly keys: (input: Input) => ReadonlyArray<string>
    readonly args: (input: Input) => ReadonlyArray<unknown>
  },
  input: Input
) {
  return { keys: script.keys(input), args: script.args(input) }
}

test("every script has a wrapper, and every wrapper a script", () => {
  const files = readdirSync(folder).filter((file) => file.endsWith(".lua"))
  assert.sameMembers(
    files,
    Scripts.all.map((script) => `${script.name}.lua`)
  )
  assert.sameMembers(
    Object.keys(samples),
    Scripts.all.map((script) => script.name)
  )
})

describe.each(Scripts.all.map((script) => [script.name, script] as const))("%s", (name, script) => {
  const lua = text(name)
  // only the code: comments may speak of KEYS and ARGV
  const code = script.lua.replaceAll(/^\s*--.*$/gm, "")

  test("the header begins with the script's name and says who calls", () => {
    assert.match(lua, new RegExp(`^-- ${name}: [a-z]`))
    for (const title of ["KEYS", "ARGV", "RETURNS", "CALLER", "ORDER"]) assert.notStrictEqual(section(lua, title), "")
  })

  test("the header's keys are the wrapper's, and all share one hash tag", () => {
    assert.deepStrictEqual(names(section(lua, "KEYS")), script.keyNames)
    const sent = samples[name]?.keys ?? []
    assert.strictEqual(sent.length, script.keyNames.length)
    for (const [i, key] of sent.entries()) {
      assert.include(key, "{orders}")
      const word = script.keyNames[i] ?? ""
      // `stream` is main or retry, as the delivery's origin says; every other word is a field of GroupKeys
      assert.strictEqual(
        key,
        word === "stream" ? keys.main : Object.entries({ ...keys, ...topic }).find(([field]) => field === word)?.[1]
      )
    }
  })

  test("the header's arguments are the wrapper's", () => {
    assert.deepStrictEqual(names(section(lua, "ARGV")), script.argNames)
    // samples name one entry, so each word of the header stands for one argument
    assert.strictEqual(samples[name]?.args.length, script.argNames.length)
  })

  test("the body uses every key it is given, and no other", () => {
    const used = [...code.matchAll(/KEYS\[(\d+)\]/g)].map((match) => Number(match[1]))
    // or goes through them
    if (!/unpack\(KEYS\)|#KEYS/.test(code)) {
      assert.deepStrictEqual(
        [...new Set(used)].toSorted((a, b) => a - b),
        script.keyNames.map((_, i) => i + 1)
      )
    }
    assert.isAtMost(Math.max(0, ...used), script.keyNames.length)
  })

  test("no argument is a time of day", () => {
    assert.notMatch(section(lua, "ARGV"), /time of day|epoch|clock|timestamp|date\b|\bnow\b/i)
    for (const word of script.argNames) assert.notMatch(word, /^(now|time|date|timestamp|at|due|until)$/i)
  })

  test("no argument of a sample is near the present time", () => {
    for (const arg of samples[name]?.args ?? []) {
      if (typeof arg === "string" && /^-?\d+$/.test(arg)) assert.isBelow(Math.abs(Number(arg)), 1e12)
    }
  })

  test("the script has no shebang, which would refuse every write while memory is full", () => {
    assert.notMatch(script.lua, /^#!/)
  })
})
