import { describe, expect, it } from "vitest"
import { checkDocs } from "./check.ts"
import { fileName, fromDocstrings, fromMarkdown, translate } from "./extract.ts"

describe("the documentation", () => {
  it("holds only programs that type-check", { timeout: 120_000 }, () => {
    expect(checkDocs().errors).toBe("")
  })
})

describe("extraction", () => {
  const markdown = ["# Title", "```ts", "const a = 1", "const b = a", "```", "```typescript", "nonsense!", "```"].join(
    "\n"
  )
  const docstring = [
    "const before = 1",
    "/**",
    " * What it does.",
    " * ```ts",
    " * one()",
    " * ```",
    " * @example",
    " * two()",
    " *",
    " * @since 0.1.0",
    " */",
    "/** ```ts no-check",
    " * three(",
    " * ``` */"
  ].join("\n")

  it("takes `ts` blocks of Markdown, at their lines, and leaves `typescript` ones", () => {
    expect(fromMarkdown("README.md", markdown)).toEqual([
      { source: "README.md", line: 3, program: "\n\nconst a = 1\nconst b = a\n" }
    ])
  })

  it("takes fenced and bare examples of docstrings, at their lines, and leaves `no-check` ones", () => {
    const found = fromDocstrings("a.ts", docstring)
    expect(found.map(({ line, program }) => [line, program.trim()])).toEqual([
      [5, "one()"],
      [8, "two()"]
    ])
    for (const { line, program } of found) {
      expect(docstring.split("\n")[line - 1]).toContain(program.split("\n")[line - 1])
    }
  })

  it("reports an error at the line of the source", () => {
    const snippets = fromMarkdown("docs/guide.md", markdown)
    const output = `test/.docs/${fileName(snippets[0]!)}(4,7): error TS2322: no`
    expect(translate(output, snippets)).toBe("docs/guide.md:4: error TS2322: no")
  })
})
