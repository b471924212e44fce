/** A project of a user, outside the workspace, that has installed the packed packages. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { run, type Tarballs } from "./pack.mjs"

export interface Consumer {
  readonly folder: string
  readonly write: (file: string, text: string) => void
  /** Runs a program in the folder; what it prints. Throws with its output when it fails. */
  readonly run: (command: string, ...args: ReadonlyArray<string>) => string
  readonly remove: () => void
}

/** The range that the workspace uses, so that a consumer's versions move with ours. */
const catalogRange = (name: string): string => {
  const workspace = readFileSync(new URL("../../pnpm-workspace.yaml", import.meta.url), "utf8")
  const range = new RegExp(`^  "?${name}"?: (\\S+)$`, "m").exec(workspace)?.[1]
  if (range === undefined) throw new Error(`the catalog of pnpm-workspace.yaml has no ${name}`)
  return range
}

const workspaceRange = (name: string): string => {
  const { devDependencies } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"))
  return devDependencies[name]
}

/** `withVitest` adds the optional peers of `@clutch/core/conformance`. */
export const makeConsumer = (tarballs: Tarballs, options?: { readonly withVitest?: boolean }): Consumer => {
  const folder = mkdtempSync(join(tmpdir(), "clutch-consumer-"))
  const write = (file: string, text: string) => writeFileSync(join(folder, file), text)
  write(
    "package.json",
    JSON.stringify({
      name: "consumer",
      private: true,
      type: "module",
      dependencies: {
        "@clutch/core": `file:${tarballs.core}`,
        "@clutch/redis": `file:${tarballs.redis}`,
        effect: catalogRange("effect"),
        "@types/node": workspaceRange("@types/node"),
        typescript: workspaceRange("typescript"),
        ...(options?.withVitest === true
          ? { vitest: catalogRange("vitest"), "@effect/vitest": catalogRange("@effect/vitest") }
          : {})
      }
    })
  )
  run(folder, "npm", "install", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error")
  return {
    folder,
    write,
    run: (command, ...args) => run(folder, command, ...args),
    remove: () => rmSync(folder, { recursive: true, force: true })
  }
}
