/**
 * Builds the workspace and packs what would be published.
 */
import { spawnSync } from "node:child_process"
import { mkdirSync, readdirSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** Runs a program and returns what it prints; throws with all that it said when it fails. */
export const run = (cwd, command, ...args) => {
  const { error, status, stderr, stdout } = spawnSync(command, args, {
    cwd,
    encoding: "utf8",
    // the packed packages are for users: here our own condition would be a way around the test
    env: { ...process.env, NODE_OPTIONS: "" }
  })
  if (status !== 0) {
    throw new Error(`${command} ${args.join(" ")} failed in ${cwd}\n${error ?? ""}${stdout}${stderr}`)
  }
  return stdout
}

// the pnpm of README's commands, whatever is on the PATH: another one packs `catalog:` and `publishConfig` differently
const pnpm = (cwd, ...args) => run(cwd, "npx", "-y", "pnpm@12.21.0", ...args)

/** `pnpm build`. */
export const build = () => pnpm(root, "run", "build")

/** Packs both packages into `folder`; the tarballs' paths. */
export const pack = (folder) => {
  const tarball = (name) => {
    const destination = join(folder, name)
    mkdirSync(destination, { recursive: true })
    pnpm(join(root, "packages", name), "pack", "--pack-destination", destination)
    return join(
      destination,
      readdirSync(destination).find((file) => file.endsWith(".tgz"))
    )
  }
  return { core: tarball("core"), redis: tarball("redis") }
}
