/**
 * What the compiler says to each mistake of `illegal.ts`.
 *
 * `pnpm check:types` proves that they are refused (`@ts-expect-error`); here the directives are taken out, and the
 * messages, which a user reads instead of a manual, are held by a snapshot.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { beforeAll, describe, expect, it } from "vitest"
import { root, tsc } from "../support/tsc.ts"

const folder = join(root, "test/.types")
const lines = readFileSync(new URL("illegal.ts", import.meta.url), "utf8").split("\n")

interface Case {
  /** The sentence after the directive. */
  readonly title: string
  /** Lines of the statement that it refuses, from 1. */
  readonly from: number
  readonly to: number
}

const directive = /^\s*\/\/ @ts-expect-error (.*)$/

const cases: ReadonlyArray<Case> = lines.flatMap((line, index) => {
  const match = directive.exec(line)
  if (match?.[1] === undefined) return []
  // up to the next comment or a statement that starts a line
  const length = lines.slice(index + 2).findIndex((next) => /^\S/.test(next) && !/^[)}\]]/.test(next))
  return [{ title: match[1], from: index + 2, to: length < 0 ? lines.length : index + 1 + length + 1 }]
})

/** Messages by the line they start at, without positions and folders, so that they hold on any machine. */
let messages: ReadonlyArray<{ readonly line: number; readonly text: string }>

beforeAll(() => {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, "illegal.ts"), lines.map((line) => (directive.test(line) ? "//" : line)).join("\n"))
  writeFileSync(
    join(folder, "tsconfig.json"),
    JSON.stringify({ extends: "../../tsconfig.base.json", compilerOptions: { noEmit: true }, files: ["illegal.ts"] })
  )
  messages = tsc(folder)
    .output.split(/\n(?=\S)/)
    .flatMap((text) => {
      const match = /^\S*illegal\.ts\((\d+),\d+\): ([\s\S]*)$/.exec(text)
      return match === null
        ? [{ line: 0, text }]
        : [{ line: Number(match[1]), text: match[2]!.replaceAll(/import\("[^"]*"\)\./g, "") }]
    })
}, 120_000)

describe("a mistake is refused with a sentence", () => {
  it("finds the cases", () => {
    expect(cases.length).toBeGreaterThanOrEqual(11)
  })

  it.each(cases)("$title", ({ from, to }) => {
    const said = messages.filter(({ line }) => line >= from && line <= to).map(({ text }) => text)
    expect(said).not.toEqual([])
    expect(said.join("\n")).toMatchSnapshot()
  })

  it("says nothing about the rest", () => {
    const outside = messages.filter(({ line }) => !cases.some(({ from, to }) => line >= from && line <= to))
    expect(outside).toEqual([])
  })
})
