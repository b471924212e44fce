import { Transport } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { awaitIdle } from "../../../packages/core/src/internal/idle.ts"
import { given, groupOf } from "../support.ts"

/** Asks a log that gives these answers, and tells how often it was asked and waited for. */
const asking = (...answers: ReadonlyArray<boolean>) =>
  Effect.gen(function* () {
    const transport = yield* Transport
    const asked: Array<{ readonly through: string; readonly due: string }> = []
    let waited = 0
    const scripted = Transport.of({
      ...transport,
      lastId: () => Effect.succeed("7-0"),
      outstanding: (_, options) =>
        Effect.sync(() => {
          const answer = answers[asked.length]
          asked.push(options)
          return answer ?? assert.fail("asked once too often")
        }),
      progress: () => Effect.sync(() => void waited++)
    })
    yield* Effect.provideService(awaitIdle([groupOf("s")], "wait"), Transport, scripted)
    return { asked, waited }
  })

describe("idle", () => {
  it.effect.each([
    [[false, false], 0],
    [[true, false, false], 1],
    [[true, true, false, false], 2],
    // something moved behind the back of the first pass
    [[false, true, false, false], 1],
    [[false, true, false, true, true, false, false], 3]
  ] as const)("two passes in a row must find nothing: answers %o need %d waits", ([answers, waits]) =>
    given(function* () {
      const { asked, waited } = yield* asking(...answers)
      assert.deepStrictEqual([asked.length, waited], [answers.length, waits])
      // it is asked about what was there at the call, however long it takes
      for (const options of asked) assert.deepStrictEqual(options, { through: "7-0", due: "wait" })
    })()
  )
})
