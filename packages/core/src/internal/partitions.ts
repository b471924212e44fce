/** Partitions are addressed everywhere, and more than one is not run yet. */
import { InvalidOption } from "../Errors.ts"

export const partitionsProblem = (partitions: number): InvalidOption | undefined =>
  partitions === 1
    ? undefined
    : new InvalidOption({
        option: "partitions",
        problem:
          Number.isSafeInteger(partitions) && partitions > 1
            ? `${partitions} partitions are not supported in this version: leave the option out, or give 1`
            : `${partitions} is no count of partitions: leave the option out, or give 1`
      })
