/** `pnpm faults`, interrupted by who waits for it. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { expect, it } from "vitest"

it("an interrupted run ends at once, and leaves no file", async () => {
  const folder = mkdtempSync(join(tmpdir(), "clutch-interrupted-"))
  try {
    const program = fileURLToPath(new URL("./run.ts", import.meta.url))
    const child = spawn(process.execPath, ["--conditions=@clutch/source", program, "--only", "kill"], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NODE_OPTIONS: "", TMPDIR: folder }
    })
    let printed = ""
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => (printed += text))
    }
    const files = () => readdirSync(folder, { recursive: true }).map(String)
    // a worker that prints is one that may print again while it ends
    while (child.exitCode === null && !files().some((file) => file.endsWith("w1.ledger"))) await sleep(20)
    child.kill("SIGINT")
    const [code] = await once(child, "close")
    expect(printed).toBe("")
    expect(code).toBe(130)
    expect(files()).toStrictEqual([])
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
