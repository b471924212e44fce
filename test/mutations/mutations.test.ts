/** The list of mutations cannot rot: each still fits the sources, and names a test that is there. */
import { readdirSync, readFileSync } from "node:fs"
import * as Result from "effect/Result"
import { assert, describe, it } from "vitest"
import { applied } from "./mutation.ts"
import { mutations } from "./mutations.ts"

const root = new URL("../../", import.meta.url)
const read = (file: string) => readFileSync(new URL(file, root), "utf8")
const conformance = readdirSync(new URL("packages/core/src/conformance/", root))
  .map((file) => read(`packages/core/src/conformance/${file}`))
  .join("\n")

/** Where titles are written; those of the conformance suite are in the package. */
const titled = (file: string) => (file.startsWith("test/conformance/") ? conformance : read(file))

describe("mutations", () => {
  it("there are at least 25, of the runtime, of both logs and of the scripts, with names of their own", () => {
    assert.isAtLeast(mutations.length, 25)
    assert.strictEqual(new Set(mutations.map(({ name }) => name)).size, mutations.length)
    const files = mutations.flatMap(({ edits }) => edits.map(({ file }) => file))
    for (const part of ["core/src/internal/memory", "core/src/internal/lane", "redis/src/internal", ".lua"]) {
      assert.isTrue(
        files.some((file) => file.includes(part)),
        part
      )
    }
  })

  it.each(mutations.map((mutation) => [mutation.name, mutation] as const))(
    "%s applies to the sources",
    (_, { edits }) => {
      const texts = new Map<string, string>()
      for (const edit of edits) {
        const changed = applied(edit, texts.get(edit.file) ?? read(edit.file))
        if (Result.isFailure(changed)) return assert.fail(changed.failure)
        texts.set(edit.file, changed.success)
      }
    }
  )

  it.each(mutations.map(({ killedBy, name }) => [name, killedBy] as const))(
    "the test that kills %s is there",
    (_, guard) => {
      assert.include(titled(guard.file), guard.test)
    }
  )

  it("a text that is gone, is there twice, or would not change is refused", () => {
    const edit = { file: "f", find: "aa", replace: "b" }
    assert.deepStrictEqual(applied(edit, "1aa2"), Result.succeed("1b2"))
    const problem = (text: string, replace = "b") => Result.merge(applied({ ...edit, replace }, text))
    assert.match(problem("a"), /does not have/)
    assert.match(problem("aaa"), /more than once/)
    assert.match(problem("aa", "aa"), /would not change/)
  })
})
