/**
 * Writes `src/internal/lua.ts`, the text of every script in `src/scripts`.
 *
 * A line `--@include name` stands for the text of `src/scripts/lib/name.lua`: Redis has no `require`.
 *
 * A `.lua` file beside the code would be left behind by `tsc` and by bundlers, so the scripts travel as strings.
 * The result is committed; `--check` fails where it no longer says what the scripts say.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"

const scripts = new URL("../src/scripts/", import.meta.url)
const target = new URL("../src/internal/lua.ts", import.meta.url)

const names = existsSync(scripts)
  ? readdirSync(scripts)
      .filter((file) => file.endsWith(".lua"))
      .map((file) => file.slice(0, -4))
      .toSorted()
  : []

/** As a template literal, so that a script stays readable in the generated file and in a diff. */
const literal = (text) => "`" + text.replaceAll(/[\\`]|\$\{/g, (match) => `\\${match}`) + "`"

const key = (name) => (/^[A-Za-z_]\w*$/.test(name) ? name : JSON.stringify(name))

// a git checkout may have turned line ends into CRLF; the script's hash must not depend on that
const read = (path) => readFileSync(new URL(path, scripts), "utf8").replaceAll("\r\n", "\n")

const entries = names.map((name) => {
  const text = read(`${name}.lua`).replaceAll(/^--@include (\w+)\n/gm, (_, lib) => read(`lib/${lib}.lua`))
  return `  ${key(name)}: ${literal(text)}`
})

const content =
  [
    "// Written by scripts/build-lua.mjs from src/scripts/*.lua: edit those, then run `pnpm lua`.",
    "",
    "/** The text of each Lua script, by its name. */",
    entries.length === 0 ? "export const lua = {} as const" : `export const lua = {\n${entries.join(",\n")}\n} as const`
  ].join("\n") + "\n"

const current = existsSync(target) ? readFileSync(target, "utf8") : undefined

if (!process.argv.includes("--check")) {
  if (current !== content) {
    mkdirSync(new URL(".", target), { recursive: true })
    writeFileSync(target, content)
  }
} else if (current !== content && !(current === undefined && names.length === 0)) {
  console.error("packages/redis/src/internal/lua.ts does not match src/scripts/*.lua: run `pnpm lua`")
  process.exit(1)
}
