/**
 * What of the runtime's log the demo shows: not the line for each failed message, of which there are hundreds on purpose,
 * but what nobody expects, such as a lost connection. On stderr, so that a report in a file stays a report.
 */
import { type Layer, Logger, LogLevel, References } from "effect"

/** Whether a log line is about one message: the runtime annotates these with the message's id. */
const aboutMessage = (options: Logger.Options<unknown>): boolean =>
  "messageId" in options.fiber.getRef(References.CurrentLogAnnotations)

const text = Logger.formatLogFmt

/** Everything when `verbose`; else warnings and worse that are not about one message. */
export const quietly = (verbose: boolean): Layer.Layer<never> =>
  Logger.layer([
    Logger.make((options) => {
      const unexpected = LogLevel.isGreaterThanOrEqualTo(options.logLevel, "Warn") && !aboutMessage(options)
      if (verbose || unexpected) process.stderr.write(`${text.log(options)}\n`)
    })
  ])
