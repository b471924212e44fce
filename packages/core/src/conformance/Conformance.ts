/**
 * The suite itself.
 *
 * @since 0.1.0
 */
import { ackPolicies } from "./AckPolicies.ts"
import { agents } from "./Agents.ts"
import { attempts } from "./Attempts.ts"
import { batch } from "./Batch.ts"
import { closing } from "./Closing.ts"
import { counting } from "./Counting.ts"
import { deadLetterTools } from "./DeadLetterTools.ts"
import { filters } from "./Filters.ts"
import { groups } from "./Groups.ts"
import { healing } from "./Healing.ts"
import { idleStats } from "./IdleStats.ts"
import { isolation } from "./Isolation.ts"
import { describeAll, make, type Options } from "./Kit.ts"
import { orderByKey } from "./Keys.ts"
import { keyFaults } from "./KeyFaults.ts"
import { leases } from "./Leases.ts"
import { manual } from "./Manual.ts"
import { many } from "./Many.ts"
import { namesakes } from "./Namesakes.ts"
import { order } from "./Order.ts"
import { partitions } from "./Partitions.ts"
import { pause } from "./Pause.ts"
import { poison } from "./Poison.ts"
import { properties } from "./Properties.ts"
import { publishSubscribe } from "./PublishSubscribe.ts"
import { retention } from "./Retention.ts"
import { retries } from "./Retries.ts"
import { rollback } from "./Rollback.ts"
import { settling } from "./Settling.ts"
import { startPositions } from "./StartPositions.ts"
import { streams } from "./Streams.ts"
import { traces } from "./Traces.ts"
import { trimming } from "./Trimming.ts"

/**
 * @since 0.1.0
 */
export type { Options, RawTarget } from "./Kit.ts"

/**
 * Registers every case for a backend, under its name.
 *
 * @category constructors
 * @since 0.1.0
 */
export const suite = (name: string, options: Options): void =>
  describeAll(`Transport: ${name}`, make(options), {
    "publish and subscribe": publishSubscribe,
    groups,
    order,
    partitions,
    "order by key": orderByKey,
    "order by key, where things fail": keyFaults,
    "workers of one name": namesakes,
    "start positions": startPositions,
    filters,
    retries,
    attempts,
    "leases and reclaim": leases,
    settling,
    isolation,
    poison,
    "ack policies": ackPolicies,
    manual,
    batch,
    streams,
    "drain and close": closing,
    pause,
    "dead letters": deadLetterTools,
    "idle and stats": idleStats,
    trimming,
    retention,
    "counts and logs": counting,
    agents,
    tracing: traces,
    rollback,
    "self-healing": healing,
    many,
    properties
  })
