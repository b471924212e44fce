/** Builds and packs once for all tests of the packages. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { TestProject } from "vitest/node"
import { build, pack, type Tarballs } from "./pack.mjs"

declare module "vitest" {
  interface ProvidedContext {
    /** What `pnpm pack` made of `@clutch/core` and `@clutch/redis`. */
    readonly tarballs: Tarballs
  }
}

export default function setup(project: TestProject): () => void {
  const folder = mkdtempSync(join(tmpdir(), "clutch-tarballs-"))
  build()
  project.provide("tarballs", pack(folder))
  return () => rmSync(folder, { recursive: true, force: true })
}
