/** The workspace's TypeScript compiler, as a function. */
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"

/** The workspace's folder. */
export const root = fileURLToPath(new URL("../..", import.meta.url))

const compiler = fileURLToPath(new URL("../../node_modules/typescript/bin/tsc", import.meta.url))

/** Checks the project in `folder` (which has a tsconfig.json). Positions in the output are relative to the workspace. */
export const tsc = (folder: string): { readonly ok: boolean; readonly output: string } => {
  const { status, stderr, stdout } = spawnSync(process.execPath, [compiler, "-p", folder, "--pretty", "false"], {
    cwd: root,
    encoding: "utf8"
  })
  return { ok: status === 0, output: (stdout + stderr).trim() }
}
