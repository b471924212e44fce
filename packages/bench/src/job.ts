/**
 * What a child process is told to do, and what it answers with.
 */

/** A contestant: a module of `programs/`, and what its rows are called. */
export type Contestant =
  | "clutch"
  | "clutch-iovalkey"
  | "bullmq"
  | "groupmq"
  | "persisted-queue"
  | "ioredis"
  | "iovalkey"
  | "socket"

/** One thing to measure, with its parameters. */
export type Task =
  | { readonly kind: "consume"; readonly concurrency: number; readonly handler: "noop" | "hop"; readonly traced?: true }
  | {
      readonly kind: "consume-ordered"
      readonly concurrency: number
      readonly partitions: number
      readonly keys: number
    }
  | { readonly kind: "publish-batches"; readonly batch: number; readonly inFlight: number }
  | { readonly kind: "publish-single"; readonly fibers: number }
  | { readonly kind: "end-to-end"; readonly concurrency: number }
  | { readonly kind: "fail-once"; readonly concurrency: number }
  | { readonly kind: "dead"; readonly concurrency: number; readonly share: number; readonly attempts: number }
  | { readonly kind: "latency"; readonly perSecond: number; readonly ownConnection: boolean }
  | { readonly kind: "lateness"; readonly perSecond: number; readonly delay: number }
  | { readonly kind: "idle"; readonly subscriptions: number }
  | { readonly kind: "memory" }

export type Kind = Task["kind"]
export type TaskOf<K extends Kind> = Extract<Task, { readonly kind: K }>

export interface Job<T extends Task = Task> {
  readonly contestant: Contestant
  readonly task: T
  /** How many messages are measured; of `idle`, how many milliseconds. */
  readonly messages: number
  /** How many messages go before, unmeasured, through a topic of their own. */
  readonly warmup: number
  /** Of the Redis. */
  readonly port: number
  /** Who publishes, where that is another process than who handles. */
  readonly role: "main" | "publisher"
}

/** What was found. Rates are messages a second, CPU is microseconds a message, times are milliseconds, memory is MB. */
export type Figure =
  | "rate"
  | "node"
  | "redis"
  | "p50"
  | "p99"
  | "connections"
  | "commands"
  | "cpu"
  | "memory"
  | "growth"

export type Figures = { readonly [F in Figure]?: number }

/** A measurement, or the reason why there is none: an option that this version does not have yet. */
export type Answer = { readonly figures: Figures } | { readonly unavailable: string } | { readonly failed: string }

export class NotAvailable extends Error {
  override readonly name = "NotAvailable"
}

/** What a program module exports: how it does each task that it takes part in. */
export type Program = { readonly [K in Kind]?: (job: Job<TaskOf<K>>) => Promise<Figures> }

export const url = ({ port }: Pick<Job, "port">): string => `redis://127.0.0.1:${port}`
