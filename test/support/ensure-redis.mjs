/**
 * Finds `redis-server`, or installs it with the system's package manager.
 *
 * Run as a program it does just that; where it cannot, it says in one line how a person can, and exits with 1.
 */
import { spawnSync } from "node:child_process"
import { accessSync, constants, realpathSync } from "node:fs"
import { delimiter, join } from "node:path"
import { fileURLToPath } from "node:url"

const isExecutable = (file) => {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** The full path of a program on the PATH, or in the folders where package managers put servers. */
const which = (program) =>
  [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/usr/local/bin", "/opt/homebrew/bin"]
    .map((folder) => join(folder, program))
    .find(isExecutable)

/** The servers to test on: `CLUTCH_REDIS_BINARIES` (separated by commas, colons or spaces), else the one on the PATH. */
export const redisBinaries = () => {
  const listed = (process.env.CLUTCH_REDIS_BINARIES ?? "").split(/[\s,:]+/).filter((name) => name !== "")
  if (listed.length > 0) return listed.map((name) => (name.includes("/") ? name : (which(name) ?? name)))
  const found = which("redis-server") ?? which("valkey-server")
  return found === undefined ? [] : [found]
}

/** Commands that install it here, in order; none where no known package manager may be used without a password. */
const installation = () => {
  const isRoot = process.getuid?.() === 0
  const sudo = isRoot ? [] : ["sudo", "-n"]
  const mayInstall = isRoot || spawnSync("sudo", ["-n", "true"], { stdio: "ignore" }).status === 0
  if (which("apt-get") !== undefined && mayInstall) {
    const apt = [...sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"]
    // the tests start their own servers: the package's service is not wanted, and starting it fails in a container
    return [
      [...apt, "update"],
      [...apt, "install", "--no-install-recommends", "redis-server"]
    ]
  }
  if (which("apk") !== undefined && mayInstall) return [[...sudo, "apk", "add", "--no-cache", "redis"]]
  if (which("brew") !== undefined && !isRoot) return [["brew", "install", "redis"]]
  return []
}

const giveUp = (message) => {
  console.error(message)
  process.exit(1)
}

/** Returns when every server to test on is there; otherwise ends the process. */
export const ensureRedis = () => {
  const present = redisBinaries()
  const missing = present.find((binary) => !isExecutable(binary))
  if (missing !== undefined) giveUp(`CLUTCH_REDIS_BINARIES names ${missing}, which is no program that can be run`)
  if (present.length > 0) return
  const commands = installation()
  if (commands.length > 0) console.log("redis-server is missing: installing it")
  // a mirror that fails to update may still have the package in its older index: the last command decides
  for (const [command, ...rest] of commands) {
    const { status, stdout, stderr } = spawnSync(command, rest, { encoding: "utf8" })
    if (status !== 0) console.error(`${command} ${rest.join(" ")}\n${stdout ?? ""}${stderr ?? ""}`)
  }
  if (redisBinaries().length === 0) {
    giveUp(
      "The tests need redis-server 6.2 or later on the PATH: sudo apt-get install redis-server, brew install redis, apk add redis, or set CLUTCH_REDIS_BINARIES"
    )
  }
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) ensureRedis()
