/**
 * `pnpm bench` as a program: what it writes, refuses and leaves behind. Nothing here depends on how fast anything is.
 */
import { assert, it } from "@effect/vitest"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { rawCommand } from "../support/redis.ts"

const program = fileURLToPath(new URL("../../packages/bench/src/main.ts", import.meta.url))

const start = (...args: ReadonlyArray<string>) => {
  const child = spawn(process.execPath, ["--conditions=@clutch/source", program, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NODE_OPTIONS: "" }
  })
  let output = ""
  const watchers = new Set<() => void>()
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text
      watchers.forEach((look) => look())
    })
  }
  const ended = once(child, "close").then(([code]) => ({ code: code as number | null, output }))
  const prints = (pattern: RegExp) =>
    new Promise<string>((resolve, reject) => {
      const look = () => {
        const found = pattern.exec(output)
        if (found !== null) resolve(found[1] ?? found[0])
      }
      watchers.add(look)
      look()
      void ended.then(() => reject(new Error(`ended without ${pattern}:\n${output}`)))
    })
  return { child, ended, prints }
}

it("a scenario is measured, and written as a page and as JSON", async () => {
  const out = mkdtempSync(join(tmpdir(), "clutch-bench-test-"))
  try {
    const { code, output } = await start("publish-256", "--quick", "--share", "0.005", "--out", out).ended
    assert.strictEqual(code, 0, output)
    const report = JSON.parse(readFileSync(join(out, "benchmarks.json"), "utf8"))
    assert.deepStrictEqual(
      report.measurements.map(({ contestant }: { contestant: string }) => contestant),
      ["clutch", "bullmq", "ioredis", "socket"]
    )
    for (const { id, median, rounds } of report.measurements) {
      assert.lengthOf(rounds, 1, id)
      for (const figure of ["rate", "node", "redis"]) assert.isAbove(median[figure], 0, `${figure} of ${id}`)
    }
    assert.lengthOf(report.targets, 3)
    for (const { met, value, what } of report.targets) {
      assert.isAbove(value, 0, what)
      assert.isBoolean(met, what)
    }
    const page = readFileSync(join(out, "benchmarks.md"), "utf8")
    for (const text of ["Clutch / BullMQ addBulk", "≥ 10 ×", "socket floor"]) assert.include(page, text)
  } finally {
    rmSync(out, { recursive: true, force: true })
  }
})

it("an unknown scenario is refused with the names there are, and nothing runs", async () => {
  const { code, output } = await start("publish-255").ended
  assert.strictEqual(code, 2)
  assert.include(output, "publish-255")
  assert.include(output, "publish-256")
  assert.notInclude(output, "on port")
})

it("an unknown option is refused", async () => {
  const { code, output } = await start("--fast").ended
  assert.strictEqual(code, 2)
  assert.include(output, "--fast")
})

it("SIGINT ends it with its server and its children", async () => {
  const { child, ended, prints } = start("publish-256", "--rounds", "1000", "--share", "0.005")
  const port = Number(await prints(/on port (\d+)/))
  await prints(/1\/1000 {2}publish/)
  child.kill("SIGINT")
  const { code } = await ended
  assert.strictEqual(code, 130)
  // "close" came: no child of it holds its output any more
  await rawCommand(port, "PING").then(
    () => assert.fail("the server still answers"),
    () => {}
  )
})
