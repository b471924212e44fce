/** Deliveries as they were read. */
import * as Codec from "@clutch/redis/Codec"
import * as RedisKeys from "@clutch/redis/RedisKeys"
import { assert, test } from "vitest"
import * as Entries from "../../packages/redis/src/internal/entry.ts"

const now = 1_800_000_000_000
const read: Entries.Read = {
  keys: RedisKeys.group("clutch", { topic: "orders", partition: 0, subscription: "billing" }),
  codec: Codec.native,
  nonce: "n1",
  epoch: 1,
  now
}
const firstDelivered = (id: string) => Entries.make(read, "main", id, 1, []).firstDelivered

test("nothing is delivered before it was written, though the server's clock is only nearly known", () => {
  assert.strictEqual(firstDelivered(`${now - 5}-0`), now)
  assert.strictEqual(firstDelivered(`${now + 20}-3`), now + 20)
})

test("an id that is no time of the server's says nothing of when it was delivered", () => {
  assert.strictEqual(firstDelivered("18446744073709551615-1"), now)
  assert.strictEqual(firstDelivered("7-1"), now)
})
