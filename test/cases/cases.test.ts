/** `cases.md` names files and tests that there are. */
import { assert, describe, it } from "@effect/vitest"
import { existsSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const here = fileURLToPath(new URL("./", import.meta.url))
const root = fileURLToPath(new URL("../../", import.meta.url))

/** The rows of every table, as cells. */
const rows = readFileSync(`${here}cases.md`, "utf8")
  .split("\n")
  .filter((line) => /^\| .* \|$/.test(line))
  .map((line) => line.slice(2, -2).split(/ *\| */))

const place = (file: string, cell: string): string => {
  if (file.includes("/")) return root + file
  return cell.includes("Conformance") && !file.includes(".test.")
    ? `${root}packages/core/src/conformance/${file}`
    : here + file
}

const normal = (text: string): string => text.replaceAll("`", "").toLowerCase()

describe("the table of cases", () => {
  it("names files and tests that there are", () => {
    let names = 0
    for (const cells of rows) {
      const tests = cells.at(-1) ?? ""
      const column = cells.find((cell) => cell.includes(".ts`")) ?? ""
      const files = [...column.matchAll(/`([^`]+\.ts)`/g)].map(([, file = ""]) => place(file, column))
      for (const file of files) assert.isTrue(existsSync(file), file)
      const texts = files.map((file) => normal(readFileSync(file, "utf8")))
      if (texts.length === 0) continue
      for (const name of tests.split(" · ")) {
        // what is written out, up to where the table cuts a name short or a test puts a word in
        const begin = normal(name.split(/…|\{|:/)[0] ?? "")
          .replace(/^\d+\. /, "")
          .trim()
        if (begin.startsWith("(") || begin.length < 14) continue
        names += 1
        assert.isTrue(
          texts.some((text) => text.includes(begin)),
          `no test is named "${begin}" in ${column}`
        )
      }
    }
    assert.isAbove(names, 60)
  })
})
