/** Order by key, while the workers that own the partitions die, freeze and come, and while Redis dies under them. */
import * as Effect from "effect/Effect"
import { scenario } from "../scenario.ts"
import { aof, crash, pause, repeat } from "./kit.ts"
import { freeze, someoneAtWork } from "./workers.ts"

export const order = scenario({
  name: "order",
  what: "a topic with a key: workers are killed or frozen, or Redis is, appendfsync always",
  times: 200,
  place: aof("always"),
  rules: { deaths: true },
  load: { keyed: true, partitions: 6 },
  chaos: (place, rig, run) =>
    repeat(run, (i) =>
      Effect.gen(function* () {
        if (i % 4 === 3) {
          // who starts while Redis is away fails, and says so: that is not what is tried here
          yield* rig.until("all workers have joined", () => {
            const joined = new Set(rig.events().flatMap(({ by, is }) => (is === "fetched" ? [by] : [])))
            return rig.workers().every(({ by }) => joined.has(by))
          })
          yield* rig.fault({ what: "crash" }, crash(place))
        } else if (i % 4 === 1) yield* freeze(rig, yield* someoneAtWork(rig))
        else {
          yield* rig.kill(yield* someoneAtWork(rig))
          yield* rig.startWorker
        }
        yield* i % 10 === 9 ? rig.untilHealed : pause(1000)
      })
    )
})
