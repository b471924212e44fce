/** What the publishers publish and the workers do with it: the same in every scenario, told by a message's number alone. */
import { Subscription, Topic } from "@clutch/core"
import type { RedisTransport } from "@clutch/redis"
import * as Schema from "effect/Schema"

/** What the handler of `billing` does: succeeds, fails at its first attempt, fails at each, or takes long. */
export type Kind = "plain" | "once" | "always" | "slow"

export const kindOf = (n: number): Kind =>
  n % 50 === 7 ? "always" : n % 10 === 3 ? "once" : n % 40 === 11 ? "slow" : "plain"

export const keys = 40

/** Some keys are much busier than others. */
export const keyOf = (n: number): string => `k${Math.floor(Math.sqrt((n * 7919) % (keys * keys)))}`

export const maxRetries = 3

export const subscriptions = ["billing", "audit"] as const

export interface Settings {
  /** Its name, in the ledger and as its connections'. */
  readonly by: string
  /** The folder of the ledgers. */
  readonly dir: string
  /** Where it connects to. */
  readonly target: Omit<RedisTransport.Options, "namespace" | "connectionName">
  readonly namespace: string
  readonly topic: TopicSettings
  readonly worker: WorkerSettings
  readonly publisher: PublisherSettings
}

export interface TopicSettings {
  readonly name: string
  readonly maxLength?: number
  readonly partitions?: number
  /** Whether messages of one key are handled in order. */
  readonly keyed?: boolean
}

export interface WorkerSettings {
  readonly concurrency: number
  /** Milliseconds. */
  readonly visibilityTimeout: number
  /** How long a plain message takes at most, in milliseconds. */
  readonly work: number
}

export interface PublisherSettings {
  /** Messages a second. */
  readonly rate: number
  /** How long a publish waits in an outage, in milliseconds. */
  readonly timeout: number
}

export const Work = Schema.Struct({ n: Schema.Number, key: Schema.String })

export const topic = ({ keyed, maxLength, name, partitions }: TopicSettings): Topic.Topic<typeof Work.Type> =>
  Topic.make(name, {
    schema: Work,
    maxLength,
    partitions,
    key: keyed === true ? ({ key }: typeof Work.Type) => key : undefined
  })

export const addresses = (settings: TopicSettings): ReadonlyArray<Subscription.Address<typeof Work.Type>> =>
  subscriptions.map((name) => Subscription.address(name, topic(settings)))

/** The settings that whoever started this process wrote. */
export const settings = (): Settings => {
  const text = process.env["CLUTCH_FAULTS"]
  if (text === undefined) throw new Error("CLUTCH_FAULTS is not set: `pnpm faults` starts this program")
  return JSON.parse(text) as Settings // written by processes.ts
}
