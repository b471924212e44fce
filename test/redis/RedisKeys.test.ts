import * as RedisKeys from "@clutch/redis/RedisKeys"
import { assert, test } from "vitest"

test("keys of a topic share its name as hash tag", () => {
  assert.deepStrictEqual(RedisKeys.group("clutch", { topic: "orders", partition: 0, subscription: "billing" }), {
    main: "clutch.{orders}",
    bell: "clutch.{orders}.bell",
    groups: "clutch.{orders}.groups",
    retry: "clutch.{orders}.billing.retry",
    due: "clutch.{orders}.billing.due",
    deadLetters: "clutch.{orders}.billing.dlq",
    state: "clutch.{orders}.billing.state",
    blocked: "clutch.{orders}.billing.blocked",
    parked: "clutch.{orders}.billing.parked",
    owners: "clutch.{orders}.billing.owners",
    mainGroup: "billing",
    retryGroup: "billing-retry"
  })
})

test("what is known of a topic lies beside its first partition", () => {
  assert.deepStrictEqual(RedisKeys.topic("shop", "orders"), {
    main: "shop.{orders}",
    bell: "shop.{orders}.bell",
    groups: "shop.{orders}.groups",
    meta: "shop.{orders}.meta"
  })
})

test("partitions behind the first have a tag of their own", () => {
  assert.deepStrictEqual(RedisKeys.log("shop", { topic: "orders", partition: 3 }), {
    main: "shop.{orders/3}",
    bell: "shop.{orders/3}.bell",
    groups: "shop.{orders/3}.groups"
  })
})
