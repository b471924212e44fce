/** A server whose wall clock jumps. */
import * as Effect from "effect/Effect"
import { admin } from "../../cases/kit.ts"
import { missing, shiftedServer } from "../clock.ts"
import { scenario } from "../scenario.ts"
import { alone, any, pause, repeat } from "./kit.ts"

const jumping = Effect.gen(function* () {
  const { server, shift } = yield* shiftedServer
  const target = { url: server.url }
  return { shift, target, direct: target, ...alone(yield* admin(server.url)) }
})

const second = 1000
const minute = 60 * second
const jumps = [2, -2, 20, -20, 45, -45].map((seconds) => seconds * second)
const far = [10, -10, 60, -60].map((minutes) => minutes * minute)

export const clock = scenario({
  name: "clock",
  what: "the server's clock jumps, by seconds up to an hour, to and fro",
  times: 100,
  place: jumping,
  missing,
  // what looks expired is taken from workers that live
  rules: { deaths: true },
  chaos: ({ shift }, rig, run) =>
    Effect.gen(function* () {
      let off = 0
      let highest = 0
      const jump = (to: number) => {
        off = to
        highest = Math.max(highest, to)
        return rig.fault(
          { what: `clock jumps to ${to / 1000} s` },
          Effect.sync(() => shift(to))
        )
      }
      yield* repeat(run, (i) =>
        Effect.gen(function* () {
          yield* jump(off + (any(i % 5 === 4 ? far : jumps) ?? 0))
          yield* i % 5 === 4 ? rig.untilHealed : pause(600)
        })
      )
      // what was made due by a clock that was ahead falls due
      yield* jump(highest + minute)
    })
})
