/**
 * `pnpm test [vitest arguments]`: every test, on a Redis that it brings, with one total as the last line.
 *
 * `CLUTCH_REDIS_BINARIES` (paths separated by commas, colons or spaces) runs the Redis tests once on each of these
 * servers; everything else runs once, on the first.
 */
import { execFileSync, spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { ensureRedis, redisBinaries } from "./ensure-redis.mjs"

ensureRedis()

const folder = mkdtempSync(join(tmpdir(), "clutch-test-"))
const counts = join(folder, "counts")
const userArguments = process.argv.slice(2)
const vitest = new URL("../../node_modules/vitest/vitest.mjs", import.meta.url).pathname

/** One run of vitest; its exit code. The counts of the run are added to the file `counts`. */
const run = (environment, ...options) => {
  const { status } = spawnSync(process.execPath, [vitest, "run", ...options, ...userArguments], {
    stdio: "inherit",
    env: { ...process.env, ...environment, CLUTCH_TEST_COUNTS: counts }
  })
  return status ?? 1
}

const version = (binary) => execFileSync(binary, ["--version"], { encoding: "utf8" }).trim()

const binaries = redisBinaries()
const codes = []
if (binaries.length < 2) {
  console.log(`Redis tests on ${process.env.REDIS_URL ? "REDIS_URL, and " : ""}${version(binaries[0])}`)
  codes.push(run({}))
} else {
  codes.push(run({ CLUTCH_REDIS_BINARIES: binaries[0] }, "--project", "!redis", "--project", "!quiet"))
  for (const binary of binaries) {
    console.log(`\nRedis tests on ${binary}: ${version(binary)}`)
    // REDIS_URL is one server; it would hide which binary ran
    codes.push(run({ CLUTCH_REDIS_BINARIES: binary, REDIS_URL: "" }, "--project", "redis", "--project", "quiet"))
  }
  console.log(`\nRedis versions run:\n${binaries.map((binary) => `  ${version(binary)}`).join("\n")}`)
}

const total = { passed: 0, failed: 0, skipped: 0 }
let reports = []
try {
  reports = readFileSync(counts, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line))
} catch {
  // no run came as far as its report: vitest itself has said why
}
for (const report of reports) for (const key of Object.keys(total)) total[key] += report[key]
// a run that died before its report counts as a failure, so that the line never says less than the exit code
total.failed += codes.length - reports.length
rmSync(folder, { recursive: true, force: true })

console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`)
// `exitCode`, not `exit`: the line above may still be on its way through a pipe
process.exitCode = codes.some((code) => code !== 0) || total.failed > 0 ? 1 : 0
