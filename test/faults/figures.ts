/** What a history comes to, in numbers. */
import { losses } from "./checker.ts"
import { isAccepted, type Rules } from "./judging.ts"
import type { History } from "./history.ts"

export interface Figures {
  readonly seconds: number
  readonly faults: number
  readonly confirmed: number
  /** Publishes of which nobody can say whether they are stored. */
  readonly unknown: number
  /** Publishes that failed, and stored nothing. */
  readonly refused: number
  /** Handlers started. */
  readonly starts: number
  /** Messages handled again that had been handled to their end, by the first subscription or the second. */
  readonly repeated: number
  /** Confirmed messages that a fault of the log took, by the first subscription or the second. */
  readonly lost: number
  readonly trimmed: number
  readonly deadLetters: number
  /** Dead letters of messages that no handler failed: their processes died too often. */
  readonly worn: number
  /** Settlements refused, since another worker had the message. */
  readonly leasesLost: number
  /** Messages of which two settlements of one delivery were accepted: a fault of the log took the first. */
  readonly settledAgain: number
  /** Settlements repeated after a lost reply that found nothing to settle. */
  readonly settledUnknown: number
  /** The longest time after a fault until new messages were handled, in ms; 0 where nobody looked. */
  readonly healed: number
}

const count = <A>(items: ReadonlyArray<A>, is: (item: A) => boolean): number => items.filter(is).length

export const figures = (history: History, rules: Rules): Figures => {
  const published = [...history.published.values()]
  const settlements = history.lives.flatMap((life) => life.settlements)
  const gone = losses(history, rules)
  const first = history.events[0]?.at ?? 0
  return {
    seconds: Math.round((history.rest.at - first) / 1e6),
    faults: history.faults.length,
    confirmed: count(published, ({ how }) => how === "confirmed"),
    unknown: count(published, ({ how }) => how === "unknown"),
    refused: count(published, ({ how }) => how === "refused"),
    starts: history.lives.reduce((sum, { starts }) => sum + starts.length, 0),
    repeated: history.lives.reduce(
      (sum, { ends }) => sum + Math.max(0, count(ends, ({ how }) => how === "succeeded") - 1),
      0
    ),
    lost: count(gone, ({ excuse }) => excuse === "fault"),
    trimmed: count(gone, ({ excuse }) => excuse === "trimmed"),
    deadLetters: history.rest.letters.length,
    worn: count(history.rest.letters, ({ n, sub }) => !rules.fails(sub, n)),
    leasesLost: count(settlements, ({ how }) => how === "lost"),
    settledAgain: count(
      history.lives,
      ({ settlements }) =>
        new Set(settlements.filter(isAccepted).map(({ entry }) => entry)).size < count(settlements, isAccepted)
    ),
    settledUnknown: count(settlements, ({ how }) => how === "unknown"),
    healed: Math.round(Math.max(0, ...history.healings) / 1000)
  }
}

const words: Readonly<Record<keyof Figures, string>> = {
  seconds: "s",
  faults: "faults",
  confirmed: "confirmed",
  unknown: "publishes unknown",
  refused: "refused",
  starts: "handlers started",
  repeated: "repeated",
  lost: "lost",
  trimmed: "trimmed",
  deadLetters: "dead letters",
  worn: "of them by deaths",
  leasesLost: "settlements refused",
  settledAgain: "settled again",
  settledUnknown: "settlements unknown",
  healed: "ms to heal at most"
}

/** One line. */
export const line = (figures: Figures): string =>
  Object.entries(words)
    .map(([name, word]) => `${figures[name as keyof Figures]} ${word}`) // the keys of the table above
    .join(", ")
