/**
 * `pnpm check:packages`, after a build: publint and "are the types wrong" on the tarballs that would be published.
 */
import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { pack } from "./pack.mjs"

const root = fileURLToPath(new URL("../..", import.meta.url))
const folder = mkdtempSync(join(tmpdir(), "clutch-pack-"))

const check = (tool, ...args) => {
  const { error, status } = spawnSync(join(root, "node_modules/.bin", tool), args, { cwd: root, stdio: "inherit" })
  if (error !== undefined) console.error(error)
  if (status !== 0) process.exitCode = 1
}

try {
  for (const tarball of Object.values(pack(folder))) {
    check("publint", "run", tarball, "--strict")
    // ESM only: what `require` finds under older module resolutions is no concern
    check("attw", tarball, "--profile", "esm-only", "--format", "ascii")
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}
