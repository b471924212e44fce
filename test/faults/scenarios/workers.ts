/** Faults of worker processes. */
import * as Effect from "effect/Effect"
import type { Process } from "../processes.ts"
import type { Rig } from "../rig.ts"
import { scenario } from "../scenario.ts"
import { any, pause, repeat, single } from "./kit.ts"

export const someoneAtWork = (rig: Rig) =>
  Effect.andThen(
    rig.until("a worker handles messages", () => rig.atWork().length > 0),
    Effect.suspend(() => Effect.fromNullishOr(any(rig.atWork())))
  ).pipe(Effect.orDie)

export const kill = scenario({
  name: "kill",
  what: "SIGKILL of a worker under load, and another one is started",
  times: 1000,
  place: single(),
  rules: { deaths: true },
  chaos: (_place, rig, run) =>
    repeat(run, () =>
      Effect.gen(function* () {
        yield* rig.kill(yield* someoneAtWork(rig))
        yield* rig.startWorker
        yield* pause(300)
      })
    )
})

/** From about a lease to several: some of what it holds is taken over, and other workers have it when it wakes. */
export const freeze = (rig: Rig, worker: Process): Effect.Effect<void> =>
  rig.fault(
    { what: "SIGSTOP", to: worker.by },
    Effect.gen(function* () {
      worker.signal("SIGSTOP")
      yield* Effect.sleep(900 + Math.random() * 2000)
      worker.signal("SIGCONT")
    })
  )

export const stop = scenario({
  name: "stop",
  what: "SIGSTOP of a worker past its leases, then SIGCONT",
  times: 100,
  place: single(),
  rules: { deaths: true },
  // handlers are busy: what is taken over still waits for one when its first owner wakes
  load: { work: 150, concurrency: 4 },
  chaos: (_place, rig, run) =>
    repeat(run, () =>
      Effect.gen(function* () {
        yield* freeze(rig, yield* someoneAtWork(rig))
        yield* pause(500)
      })
    )
})
