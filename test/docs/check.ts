/**
 * `pnpm check:docs`: type-checks the code of every README.md, docs/*.md and docstrings, all in one run of the compiler.
 */
import { globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { root, tsc } from "../support/tsc.ts"
import { fileName, fromDocstrings, fromMarkdown, translate } from "./extract.ts"

/** Inside the workspace, so that a program resolves packages as the tests do. */
const folder = join(root, "test/.docs")

export interface Report {
  readonly programs: number
  /** Empty when every program compiles; otherwise what the compiler says, at the lines of the sources. */
  readonly errors: string
}

/** One of each call at a time: they share a folder. */
export const checkDocs = (): Report => {
  const read = (file: string) => readFileSync(join(root, file), "utf8")
  const files = (pattern: string) => globSync(pattern, { cwd: root }).toSorted()
  const snippets = [
    ...files("{README.md,packages/*/README.md,docs/**/*.md}").flatMap((file) => fromMarkdown(file, read(file))),
    ...files("packages/*/src/**/*.ts").flatMap((file) => fromDocstrings(file, read(file)))
  ]
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  for (const snippet of snippets) writeFileSync(join(folder, fileName(snippet)), snippet.program)
  writeFileSync(
    join(folder, "tsconfig.json"),
    JSON.stringify({
      extends: "../../tsconfig.base.json",
      // an example may name what it does not use
      compilerOptions: { noEmit: true, noUnusedLocals: false, noUnusedParameters: false, isolatedModules: false },
      include: ["*.ts"]
    })
  )
  if (snippets.length === 0) return { programs: 0, errors: "" }
  const { ok, output } = tsc(folder)
  return { programs: snippets.length, errors: ok ? "" : translate(output, snippets) }
}

if (import.meta.main) {
  const { errors, programs } = checkDocs()
  if (errors !== "") {
    console.error(errors)
    process.exitCode = 1
  } else console.log(`${programs} programs in README, docs and docstrings type-check`)
}
