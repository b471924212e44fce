/**
 * One measurement in a process of its own, so that memory, CPU and compiled code are its own too.
 *
 * The harness starts it with a job as its argument; it answers with one message and ends.
 */
import { type Answer, type Contestant, type Job, NotAvailable, type Program } from "./job.ts"

/** Imported only by who takes part, since imports are memory. */
const programs: Record<Contestant, () => Promise<{ readonly program: Program }>> = {
  clutch: () => import("./programs/clutch.ts"),
  "clutch-iovalkey": () => import("./programs/clutch.ts"),
  bullmq: () => import("./programs/bullmq.ts"),
  ioredis: () => import("./programs/raw.ts"),
  iovalkey: () => import("./programs/raw.ts"),
  socket: () => import("./programs/socket.ts")
}

const run = async (job: Job): Promise<Answer> => {
  const { program } = await programs[job.contestant]()
  // the task's kind is what chose the function
  const task = program[job.task.kind] as ((job: Job) => ReturnType<NonNullable<Program["consume"]>>) | undefined
  if (task === undefined) throw new Error(`${job.contestant} does not take part in ${job.task.kind}`)
  return { figures: await task(job) }
}

// whoever asked is gone
process.on("disconnect", () => process.exit(1))

const answer = await run(JSON.parse(process.argv[2] ?? "null") as Job).catch((error: unknown): Answer =>
  error instanceof NotAvailable
    ? { unavailable: error.message }
    : { failed: error instanceof Error ? (error.stack ?? error.message) : String(error) }
)
process.send?.(answer, () => process.exit(0))
