/** A raw loop's resident memory, in a process that has imported the modules of Effect that Clutch imports. */
import { globSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import type { Program } from "../job.ts"
import { keyOf, main } from "../message.ts"
import { resident } from "../resident.ts"
import { connect, drain, join } from "./raw.ts"

/** Read from Clutch's own sources, so that the list is never out of date. Those for tests are not imported by users. */
const importEffect = async () => {
  const packages = fileURLToPath(new URL("../../..", import.meta.url))
  const files = globSync("{core,redis}/src/{*,internal/*,scripts/*}.ts", { cwd: packages })
  const names = new Set<string>()
  for (const file of files) {
    for (const [, name] of readFileSync(`${packages}/${file}`, "utf8").matchAll(
      /^import (?!type).* from "(effect\/[\w/]+)"/gm
    )) {
      if (name !== undefined) names.add(name)
    }
  }
  for (const name of names) await import(name)
}

export const program: Program = {
  memory: async (job) => {
    await importEffect()
    const client = await connect(job)
    await join(client, keyOf(main))
    const memory = resident(job.messages)
    await drain(client, keyOf(main), job.messages, memory.one)
    client.disconnect()
    return memory.figures()
  }
}
