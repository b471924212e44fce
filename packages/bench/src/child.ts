/**
 * One measurement in a process of its own, so that memory, CPU and compiled code are its own too.
 *
 * The harness starts it with a job as its argument; it answers with one message and ends.
 */
import { type Answer, type Contestant, type Job, type Kind, NotAvailable, type Program } from "./job.ts"

type Module = Promise<{ readonly program: Program }>

const clutch = (kind: Kind): Module => {
  switch (kind) {
    case "latency":
    case "lateness":
    case "idle":
      return import("./programs/clutchWaiting.ts")
    case "end-to-end":
    case "consume-ordered":
      return import("./programs/clutchPairs.ts")
    case "memory":
      return import("./programs/clutchMemory.ts")
    default:
      return import("./programs/clutch.ts")
  }
}

const raw = (kind: Kind): Module => {
  switch (kind) {
    case "fail-once":
      return import("./programs/rawFailing.ts")
    case "end-to-end":
    case "latency":
      return import("./programs/rawPairs.ts")
    case "memory":
      return import("./programs/rawMemory.ts")
    default:
      return import("./programs/raw.ts")
  }
}

/** Imported only by who takes part, since imports are memory. */
const programs: Record<Contestant, (kind: Kind) => Module> = {
  clutch,
  "clutch-iovalkey": clutch,
  bullmq: () => import("./programs/bullmq.ts"),
  groupmq: () => import("./programs/groupmq.ts"),
  "persisted-queue": () => import("./programs/persistedQueue.ts"),
  ioredis: raw,
  iovalkey: raw,
  socket: () => import("./programs/socket.ts")
}

const run = async (job: Job): Promise<Answer> => {
  const { program } = await programs[job.contestant](job.task.kind)
  // the task's kind is what chose the function
  const task = program[job.task.kind] as ((job: Job) => ReturnType<NonNullable<Program["consume"]>>) | undefined
  if (task === undefined) throw new Error(`${job.contestant} does not take part in ${job.task.kind}`)
  return { figures: await task(job) }
}

// whoever asked is gone
process.on("disconnect", () => process.exit(1))

// whoever forks it gives a job
const answer = await run(JSON.parse(process.argv[2] ?? "null") as Job).catch((error: unknown): Answer =>
  error instanceof NotAvailable
    ? { unavailable: error.message }
    : { failed: error instanceof Error ? (error.stack ?? error.message) : String(error) }
)
process.send?.(answer, () => process.exit(0))
