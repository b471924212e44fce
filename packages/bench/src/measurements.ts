/**
 * What is measured: a task, done by a contestant, with so many messages. Rows share measurements: "no-op at 32" is what
 * three of them compare with.
 */
import type { Contestant, Task } from "./job.ts"

export interface Measurement {
  /** Unique: the key of the JSON file. */
  readonly id: string
  readonly contestant: Contestant
  readonly task: Task
  /** Messages of a full run, from which a quick one takes a part. */
  readonly messages: number
  /** Whether Redis holds the messages, in a stream, before the contestant starts. */
  readonly backlog: boolean
  /** Left out of `--quick`: no target asks for it, or it cannot be quick. */
  readonly slow: boolean
}

const streams: ReadonlySet<Contestant> = new Set<Contestant>([
  "clutch",
  "clutch-iovalkey",
  "ioredis",
  "iovalkey",
  "socket"
])
const backlogged: ReadonlySet<Task["kind"]> = new Set<Task["kind"]>(["consume", "fail-once", "dead", "memory"])

const idOf = (contestant: Contestant, { kind, ...parameters }: Task): string =>
  [kind, ...Object.entries(parameters).map(([name, value]) => `${name}=${value}`), contestant].join(" ")

export const measurement = (
  contestant: Contestant,
  task: Task,
  messages: number,
  options?: { readonly slow?: boolean }
): Measurement => ({
  id: idOf(contestant, task),
  contestant,
  task,
  messages,
  backlog: streams.has(contestant) && backlogged.has(task.kind),
  slow: options?.slow ?? false
})
