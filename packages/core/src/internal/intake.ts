/**
 * How much to take from the log: about one second of measured work, never more than the subscription may hold.
 * Plain arithmetic, so that a table tests it.
 */

/** Unsettled bytes at most; a single message may be larger. */
export const maxBytes = 16 * 1024 * 1024

/**
 * Unsettled deliveries at most where the handler is too quick to measure. What is held when garbage is collected is copied,
 * again and again, which costs more than the reads that it saves; but a partition of several needs enough for its reads.
 */
const mostHeld = (partitions: number): number => Math.min(4096, Math.max(2048, 256 * partitions))

/** What waits for another of its key, at most. */
const mostStuck = 4096

/** The most for one read. */
const mostRead = 512

export interface Load {
  /** Deliveries that handlers can take at once. */
  readonly slots: number
  /** The user's limit of unsettled deliveries. */
  readonly prefetch: number | undefined
  /** How long a delivery occupies its slot, in seconds; `undefined` before the first was measured. */
  readonly seconds: number | undefined
  readonly unsettled: number
  /** How many partitions share what the subscription may hold. */
  readonly partitions: number
  /** Of these, or beside these: what waits for another of its key. */
  readonly stuck: number
  readonly bytes: number
  /** Taken, and not yet started. */
  readonly waiting: number
  readonly free: number
  /** Handled, and on their way to the log. */
  readonly settling: number
  /** Deliveries waited too long: take no more than can start. */
  readonly cautious: boolean
}

/** How many unsettled deliveries to hold: of a partition, its part of what the subscription may. */
export const target = (load: Load): number => Math.max(1, Math.floor(whole(load) / load.partitions))

const whole = ({ partitions, prefetch, seconds, slots }: Load): number => {
  if (prefetch !== undefined) return prefetch
  if (seconds === undefined) return slots
  const most = Math.max(mostHeld(partitions), slots)
  return Math.max(slots, Math.min(seconds === 0 ? most : Math.ceil(slots / seconds), most))
}

/** How many to read now; 0 where it is better to wait. */
export const room = (load: Load): number => {
  if ((load.bytes >= maxBytes && load.unsettled + load.stuck > 0) || load.stuck >= mostStuck) return 0
  const goal = target(load)
  const left = Math.min(goal - load.unsettled, mostRead)
  const startable = load.free - load.waiting
  if (load.cautious) return Math.max(0, Math.min(left, startable))
  if (left <= 0) return 0
  // handlers about to run dry are fed at once; otherwise reads are worth their round trip only half a hold at a time
  const hungry = startable > 0 && !(load.settling > 0 && isInstant(load))
  return hungry || left >= Math.min(goal, mostRead) / 2 ? left : 0
}

/** Such handlers are always about to run dry, and lose no time by it: there is room again when the log has answered. */
const isInstant = ({ seconds }: Load): boolean => seconds !== undefined && seconds < 0.001

/** Moves a measured average towards a new value; recent values count for more. */
export const average = (before: number | undefined, value: number): number =>
  before === undefined ? value : before + (value - before) * 0.1
