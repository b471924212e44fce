/** Clutch's resident memory, over many messages. */
import { Subscription } from "@clutch/core"
import * as Effect from "effect/Effect"
import type { Program } from "../job.ts"
import { group, main } from "../message.ts"
import { countdown } from "../meter.ts"
import { resident } from "../resident.ts"
import { run, subscribed, topicOf } from "./clutch.ts"

export const program: Program = {
  memory: (job) => {
    const memory = resident(job.messages)
    const counted = countdown(job.messages)
    const handled = Effect.sync(() => {
      memory.one()
      counted.one()
    })
    const subscription = Subscription.make(group, topicOf(main), () => handled, {
      concurrency: 32,
      from: "beginning"
    })
    return run(
      job,
      Effect.gen(function* () {
        const { close } = yield* subscribed(subscription, counted.all)
        yield* close
        return memory.figures()
      })
    )
  }
}
