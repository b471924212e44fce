/**
 * Measures inside the contestant's own process: the time, its CPU, and what Redis used meanwhile.
 */
import { type Figures, type Job } from "./job.ts"
import { asker } from "./wire.ts"

export interface Meter {
  readonly begin: () => Promise<void>
  /** What went by since `begin`. Time and this process's CPU end when it is called, not when it resolves. */
  readonly end: (messages: number) => Promise<Figures>
}

/** Microseconds of CPU that the server used since it started. */
const serverCpu = (info: string): number => {
  const seconds = (name: string) => Number(new RegExp(`${name}:([0-9.]+)`).exec(info)?.[1])
  return (seconds("used_cpu_sys") + seconds("used_cpu_user")) * 1e6
}

export const meter = async ({ port }: Pick<Job, "port">): Promise<Meter> => {
  const admin = await asker(port)
  let redis = 0
  let node = process.cpuUsage()
  let begun = 0
  return {
    begin: async () => {
      redis = serverCpu(await admin.ask("INFO", "cpu"))
      node = process.cpuUsage()
      begun = performance.now()
    },
    end: async (messages) => {
      const seconds = (performance.now() - begun) / 1000
      const used = process.cpuUsage(node)
      const server = serverCpu(await admin.ask("INFO", "cpu")) - redis
      admin.close()
      return { rate: messages / seconds, node: (used.user + used.system) / messages, redis: server / messages }
    }
  }
}

/** Counts down, and says when it is over. */
export const countdown = (count: number): { readonly one: () => void; readonly all: Promise<void> } => {
  const { promise, resolve } = Promise.withResolvers<void>()
  let left = count
  return {
    one: () => {
      left -= 1
      if (left === 0) resolve()
    },
    all: promise
  }
}

/** The value below which this share of them lies. */
export const quantile = (values: ReadonlyArray<number>, share: number): number => {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}
