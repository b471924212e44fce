/** `breaks.md` has a row for every case of the suite. */
import { readdirSync, readFileSync } from "node:fs"
import { assert, test } from "vitest"

const suite = new URL("../../packages/core/src/conformance/", import.meta.url)
const rows = readFileSync(new URL("breaks.md", import.meta.url), "utf8")

/** The names that a file gives its cases, each as far as it is written out. */
const casesOf = (file: string): ReadonlyArray<string> =>
  Array.from(
    readFileSync(new URL(file, suite), "utf8").matchAll(/kit\.test(?:If)?\([^"`]*["`](\d+\. [^"`$]*)/g),
    ([, name = ""]) => name
  )

for (const file of readdirSync(suite)) {
  const cases = casesOf(file)
  if (cases.length === 0) continue
  test(`each case of ${file} has a break that turned it red`, () => {
    assert.deepStrictEqual(
      cases.filter((name) => !rows.includes(`| ${name}`)),
      []
    )
  })
}
