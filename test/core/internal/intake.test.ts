import { assert, describe, it } from "@effect/vitest"
import * as intake from "../../../packages/core/src/internal/intake.ts"

/** One idle slot of a subscription that has measured nothing yet. */
const idle: intake.Load = {
  slots: 1,
  prefetch: undefined,
  seconds: undefined,
  unsettled: 0,
  stuck: 0,
  partitions: 1,
  bytes: 0,
  waiting: 0,
  free: 1,
  settling: 0,
  cautious: false
}
const MiB = 1024 * 1024

describe("intake", () => {
  it.each([
    { name: "before anything was measured, one for each slot", load: { slots: 4 }, target: 4 },
    { name: "handlers of 1 s: one for each slot", load: { slots: 4, seconds: 1 }, target: 4 },
    { name: "handlers of 10 s: still one for each slot", load: { slots: 4, seconds: 10 }, target: 4 },
    { name: "handlers of 100 ms: about a second of work", load: { slots: 4, seconds: 0.1 }, target: 40 },
    { name: "handlers of 10 ms", load: { slots: 1, seconds: 0.01 }, target: 100 },
    { name: "handlers too quick to measure: bounded", load: { slots: 1, seconds: 0 }, target: 2048 },
    { name: "four partitions: their share", load: { slots: 1, seconds: 0, partitions: 4 }, target: 512 },
    { name: "sixteen partitions: enough for a read each", load: { slots: 1, seconds: 0, partitions: 16 }, target: 256 },
    { name: "many partitions: bounded", load: { slots: 1, seconds: 0, partitions: 64 }, target: 64 },
    { name: "handlers of a microsecond: bounded", load: { slots: 16, seconds: 1e-6 }, target: 2048 },
    { name: "more slots than the bound", load: { slots: 5000, seconds: 0 }, target: 5000 },
    { name: "the user's prefetch, whatever was measured", load: { slots: 4, seconds: 0.001, prefetch: 7 }, target: 7 },
    { name: "the user's prefetch below the slots", load: { slots: 4, prefetch: 2 }, target: 2 }
  ])("11. holds $target: $name", ({ load, target }) => {
    assert.strictEqual(intake.target({ ...idle, ...load }), target)
  })

  it.each([
    { name: "idle: what it may hold", load: { slots: 4, free: 4 }, room: 4 },
    { name: "all slots busy and held: nothing", load: { slots: 4, free: 0, unsettled: 4 }, room: 0 },
    { name: "a handler about to run dry is fed at once", load: { seconds: 0.01, unsettled: 99 }, room: 1 },
    {
      name: "no handler dry, less than half a hold missing: waits",
      load: { seconds: 0.01, unsettled: 60, free: 0, waiting: 59 },
      room: 0
    },
    {
      name: "no handler dry, half a hold missing: reads",
      load: { seconds: 0.01, unsettled: 50, free: 0, waiting: 49 },
      room: 50
    },
    {
      name: "handlers too quick to measure, and what they did is being settled: waits",
      load: { seconds: 0.0001, unsettled: 1900, settling: 1900 },
      room: 0
    },
    { name: "as much waits for its key as may: waits", load: { seconds: 0, stuck: 4096 }, room: 0 },
    { name: "almost as much waits for its key: reads", load: { seconds: 0, stuck: 4095 }, room: 512 },
    {
      name: "handlers too quick to measure, some of which go on for ever: reads",
      load: { seconds: 0.0001, unsettled: 1900, slots: 2000, free: 100, settling: 0 },
      room: 148
    },
    {
      name: "handlers of 10 ms, and what they did is being settled: reads",
      load: { seconds: 0.01, unsettled: 99, settling: 99 },
      room: 1
    },
    { name: "never more than 512 a read", load: { seconds: 0 }, room: 512 },
    {
      name: "a full read missing is worth it",
      load: { seconds: 0, unsettled: 1750, free: 0, waiting: 1749 },
      room: 298
    },
    { name: "never above the user's prefetch", load: { prefetch: 10, unsettled: 8, waiting: 0, free: 1 }, room: 2 },
    { name: "prefetch reached", load: { prefetch: 10, unsettled: 10 }, room: 0 },
    { name: "over the prefetch", load: { prefetch: 10, unsettled: 12 }, room: 0 },
    { name: "16 MiB held", load: { seconds: 0, unsettled: 1, bytes: 16 * MiB }, room: 0 },
    { name: "a byte less", load: { seconds: 0, unsettled: 1, bytes: 16 * MiB - 1 }, room: 512 },
    { name: "nothing held: one larger message may come", load: { bytes: 16 * MiB }, room: 1 },
    { name: "cautious: no more than can start", load: { cautious: true, slots: 4, free: 2, seconds: 0 }, room: 2 },
    {
      name: "cautious, with some waiting",
      load: { cautious: true, slots: 4, free: 2, waiting: 1, unsettled: 3, seconds: 0 },
      room: 1
    },
    {
      name: "cautious, no free handler",
      load: { cautious: true, slots: 4, free: 0, unsettled: 4, seconds: 0 },
      room: 0
    },
    {
      name: "cautious, more waiting than free",
      load: { cautious: true, slots: 4, free: 1, waiting: 3, seconds: 0 },
      room: 0
    }
  ])("11. reads $room: $name", ({ load, room }) => {
    assert.strictEqual(intake.room({ ...idle, ...load }), room)
  })

  it("the first measurement is taken as it is, later ones move the average by a tenth", () => {
    assert.strictEqual(intake.average(undefined, 5), 5)
    assert.strictEqual(intake.average(0, 10), 1)
    assert.strictEqual(intake.average(10, 10), 10)
  })

  it("11. the average follows handlers that became quick, and those that became slow", () => {
    let seconds: number | undefined = 10
    for (let i = 0; i < 100; i++) seconds = intake.average(seconds, 0.001)
    assert.isBelow(seconds, 0.002)
    for (let i = 0; i < 100; i++) seconds = intake.average(seconds, 10)
    assert.isAbove(seconds, 9.9)
  })
})
