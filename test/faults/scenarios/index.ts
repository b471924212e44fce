/** Every scenario, in the order in which they run. */
import type { Scenario } from "../scenario.ts"
import * as Clock from "./clock.ts"
import * as Failover from "./failover.ts"
import * as Network from "./network.ts"
import * as Order from "./order.ts"
import * as Server from "./server.ts"
import * as Workers from "./workers.ts"

export const scenarios: ReadonlyArray<Scenario> = [
  Workers.kill,
  Workers.stop,
  Server.restartAlways,
  Server.restartEverysec,
  Server.flush,
  Server.clientKill,
  Network.network,
  Server.memory,
  Server.trim,
  Clock.clock,
  Order.order,
  Failover.sentinel,
  Failover.cluster
]
