/** Half of the histories: the other half is in a file of its own, so that two cores share them. */
import { suite } from "./histories.ts"

suite("a")
