/** Each invariant on made-up histories: one that breaks it and nothing else, and the like that is allowed. */
import { describe, expect, it } from "vitest"
import { check, type Invariant, invariants } from "./checker.ts"
import { figures } from "./figures.ts"
import * as History from "./history.ts"
import type { Rules } from "./judging.ts"
import type { Event, Settled, What } from "./ledger.ts"

const rules: Rules = {
  subscriptions: ["billing"],
  maxRetries: 2,
  fails: (_sub, n) => n === 7,
  keys: ["main", "main.dlq"]
}

const clean: History.Rest = { at: 1_000_000_000, unsettled: [], letters: [], keys: ["main"], consumers: [] }

/** Events a millisecond apart, from `at` on, in milliseconds. */
const events = (...all: ReadonlyArray<readonly [at: number, by: string, what: What]>): ReadonlyArray<Event> =>
  all.map(([at, by, what]) => ({ ...what, at: at * 1000, by }))

type Line = readonly [at: number, by: string, what: What]

const sub = "billing"
const entryOf = (n: number) => `main ${n}-0`

const published = (n: number, at = 0): ReadonlyArray<Line> => [
  [at, "p1", { is: "publishing", ns: [n] }],
  [at + 1, "p1", { is: "published", ns: [n], from: at * 1000, how: "confirmed", trimmed: 0 }]
]
const joined = (by: string): Line => [0, by, { is: "joined", sub, consumer: `consumer-of-${by}` }]
const fetched = (at: number, by: string, n: number, attempt = 1, entry = entryOf(n)): Line => [
  at,
  by,
  { is: "fetched", sub, entries: [{ n, entry, attempt }] }
]
const started = (at: number, by: string, n: number, attempt = 1, entry = entryOf(n), fence?: number): Line => [
  at,
  by,
  { is: "started", sub, original: `${n}-0`, partition: 0, n, entry, attempt, fence }
]
const ended = (
  at: number,
  by: string,
  n: number,
  how: "succeeded" | "failed" = "succeeded",
  attempt = 1,
  entry = entryOf(n)
): Line => [at, by, { is: "ended", sub, how, n, entry, attempt }]
const settled = (
  at: number,
  by: string,
  n: number,
  outcome: Settled["outcome"] = "Ack",
  how: Settled["how"] = "done",
  attempt = 1,
  entry = entryOf(n),
  from = at - 1,
  fence?: number
): Line => [at, by, { is: "settled", sub, from: from * 1000, fence, entries: [{ n, entry, attempt, outcome, how }] }]
const acked = (at: number, by: string, n: number, fence: number, from = at - 1): Line =>
  settled(at, by, n, "Ack", "done", 1, entryOf(n), from, fence)
const fault = (from: number, at: number, what: string, more: { to?: string; loses?: number | "all" } = {}): Line => [
  at,
  "rig",
  { is: "fault", what, from: from * 1000, ...more }
]

/** Taken, handled and acked, 5 milliseconds in all. */
const handled = (at: number, by: string, n: number, attempt = 1, entry = entryOf(n)): ReadonlyArray<Line> => [
  fetched(at, by, n, attempt, entry),
  started(at + 1, by, n, attempt, entry),
  ended(at + 2, by, n, "succeeded", attempt, entry),
  settled(at + 5, by, n, "Ack", "done", attempt, entry, at + 3)
]

const judged = (lines: ReadonlyArray<Line>, rest: Partial<History.Rest> = {}, more: Partial<Rules> = {}) => {
  const history = History.make(events(...lines), { ...clean, ...rest })
  return check(history, { ...rules, ...more })
}
const broken = (...args: Parameters<typeof judged>) => [...new Set(judged(...args).map(({ invariant }) => invariant))]

type Made = Parameters<typeof judged>

/** What breaks each invariant, and no other. */
const bad: Readonly<Record<Invariant, Readonly<Record<string, Made>>>> = {
  lost: {
    "a confirmed message that nobody handled": [published(1)],
    "one whose handler was begun and never ended": [[...published(1), started(2, "w1", 1)]],
    "one that was confirmed after the fault that may lose what came before": [
      [...published(1, 100), fault(50, 60, "FLUSHALL", { loses: "all" })]
    ],
    "one that was confirmed longer before than the fault may reach": [
      [...published(1, 0), fault(50, 60, "crash", { loses: 20 })]
    ],
    "more than were counted as trimmed": [published(1), {}, { trims: true }],
    "one that had begun, of a trimmed topic": [[...published(1), started(2, "w1", 1)], {}, { trims: true }],
    "one that had begun again, of a trimmed topic": [
      [
        ...published(1),
        started(2, "w1", 1),
        settled(4, "w1", 1, "Retry", "lost"),
        started(6, "w2", 1, 2),
        [7, "rig", { is: "fault", what: "XTRIM", from: 1, trimmed: 1 }]
      ],
      {},
      { trims: true }
    ]
  },
  phantom: { "a message that nobody published": [handled(1, "w1", 1)] },
  ackedUnhandled: {
    "an ack where the handler had failed": [
      [
        ...published(1),
        started(2, "w1", 1),
        ended(3, "w1", 1, "failed"),
        settled(5, "w1", 1),
        started(10, "w2", 1, 2),
        ended(11, "w2", 1, "succeeded", 2),
        settled(12, "w2", 1, "Ack", "lost", 2)
      ]
    ],
    "an ack that was asked for before the handler succeeded": [
      [...published(1), started(2, "w1", 1), settled(9, "w1", 1, "Ack", "done", 1, entryOf(1), 3), ended(5, "w1", 1)]
    ]
  },
  settledTwice: {
    "one delivery acked by two": [[...published(1), ...handled(2, "w1", 1), ...handled(12, "w2", 1, 2)]],
    "one delivery acked by two, after a failover": [
      [...published(1), fault(40, 60, "crash", { loses: 20 }), ...handled(70, "w1", 1), ...handled(82, "w2", 1, 2)]
    ],
    "one delivery acked twice by one worker, the first time when it had been given it again": [
      [...published(1), ...handled(2, "w1", 1), fetched(3, "w1", 1), settled(12, "w1", 1)]
    ],
    "a message acked in the topic and in the retries": [
      [...published(1), ...handled(2, "w1", 1), ...handled(12, "w2", 1, 2, "retry 1-0")]
    ],
    "a failure accepted, and an ack of the same delivery": [
      [
        ...published(1),
        started(2, "w1", 1),
        ended(3, "w1", 1, "failed"),
        settled(4, "w1", 1, "Retry"),
        ...handled(12, "w2", 1, 2)
      ]
    ],
    "acked, and a dead letter": [
      [...published(7), ...handled(2, "w1", 7)],
      { letters: [{ sub, n: 7, reason: "exhausted", attempts: 3 }] }
    ],
    "two dead letters": [
      [...published(7), started(2, "w1", 7)],
      {
        letters: [
          { sub, n: 7, reason: "exhausted", attempts: 3 },
          { sub, n: 7, reason: "exhausted", attempts: 3 }
        ]
      }
    ]
  },
  stale: {
    "an ack accepted, asked for after another one had the next attempt": [
      [
        ...published(1),
        fetched(2, "w1", 1),
        started(3, "w1", 1),
        ended(4, "w1", 1),
        fetched(10, "w2", 1, 2),
        settled(20, "w1", 1)
      ]
    ]
  },
  attempts: {
    "an attempt beyond the last": [[...published(1), ...handled(2, "w1", 1, 4)]],
    "more retries accepted than there are": [
      [
        ...published(7),
        ...[1, 2, 3].flatMap((i) => [
          started(i * 10, "w1", 7, i, `retry ${i}-0`),
          ended(i * 10 + 1, "w1", 7, "failed", i, `retry ${i}-0`),
          settled(i * 10 + 2, "w1", 7, "Retry", "done", i, `retry ${i}-0`)
        ])
      ],
      { letters: [{ sub, n: 7, reason: "exhausted", attempts: 3 }] }
    ],
    "a dead letter of too many attempts": [
      published(7),
      { letters: [{ sub, n: 7, reason: "exhausted", attempts: 4 }] }
    ],
    "one called exhausted too early": [published(7), { letters: [{ sub, n: 7, reason: "exhausted", attempts: 2 }] }]
  },
  uncounted: {
    "an attempt begun twice, and nobody had given it back": [
      [...published(1), started(2, "w1", 1), fault(3, 4, "SIGKILL", { to: "w1" }), ...handled(12, "w2", 1)]
    ]
  },
  deadLetters: {
    "a dead letter that no failure explains": [
      published(1),
      { letters: [{ sub, n: 1, reason: "exhausted", attempts: 3 }] }
    ],
    "one of a subscription that never was": [
      [...published(7), ...handled(2, "w1", 7)],
      { letters: [{ sub: "shipping", n: 7, reason: "exhausted", attempts: 3 }] },
      { fails: () => true }
    ]
  },
  order: {
    "a message begun before the one before it was settled": [
      [...published(1), ...published(2), ...handled(10, "w1", 1), ...handled(11, "w2", 2)],
      {},
      { keyOf: () => "k" }
    ],
    "a retry begun after its successor": [
      [
        ...published(1),
        ...published(2),
        started(10, "w1", 1),
        ended(11, "w1", 1, "failed"),
        settled(12, "w1", 1, "Retry"),
        ...handled(20, "w2", 2),
        ...handled(30, "w1", 1, 2, "retry 1-0")
      ],
      {},
      { keyOf: () => "k" }
    ]
  },
  fence: {
    "an ack accepted, asked for after a worker with a greater fence had begun": [
      [
        ...published(1),
        ...published(2),
        started(2, "w1", 1, 1, entryOf(1), 1),
        ended(3, "w1", 1),
        started(10, "w2", 2, 1, entryOf(2), 2),
        ended(11, "w2", 2),
        acked(12, "w2", 2, 2),
        acked(20, "w1", 1, 1)
      ]
    ],
    "a fence that two have": [
      [
        ...published(1),
        ...published(2),
        ...[1, 2].flatMap((n) => [
          started(n * 10, `w${n}`, n, 1, entryOf(n), 7),
          ended(n * 10 + 1, `w${n}`, n),
          acked(n * 10 + 3, `w${n}`, n, 7)
        ])
      ]
    ]
  },
  rest: {
    "something left": [[], { unsettled: ["billing: 1 pending"] }],
    "a key that should not be": [[], { keys: ["main", "main.due"] }]
  },
  consumers: {
    "one that left, and is remembered": [[joined("w1")], { consumers: ["consumer-of-w1"] }],
    "one that was killed long ago": [
      [joined("w1"), fault(1, 2, "SIGKILL", { to: "w1" })],
      { consumers: ["consumer-of-w1"] }
    ],
    "one that nobody knows": [[], { consumers: ["stranger"] }]
  }
}

/** What looks like it, and is allowed. */
const good: Readonly<Record<string, Made>> = {
  "all is handled once": [[...published(1), ...handled(2, "w1", 1)]],
  "a failure, its retry, and the dead letter": [
    [
      ...published(7),
      ...[1, 2, 3].flatMap((i) => [
        started(i * 10, "w1", 7, i, `retry ${i}-0`),
        ended(i * 10 + 1, "w1", 7, "failed", i, `retry ${i}-0`),
        settled(i * 10 + 2, "w1", 7, i < 3 ? "Retry" : "DeadLetter", "done", i, `retry ${i}-0`)
      ])
    ],
    { keys: ["main", "main.dlq"], letters: [{ sub, n: 7, reason: "exhausted", attempts: 3 }] }
  ],
  "a publish of which nobody knows, and nothing came of it": [
    [
      [0, "p1", { is: "publishing", ns: [1] }],
      [1, "p1", { is: "published", ns: [1], from: 0, how: "unknown", trimmed: 0 }]
    ]
  ],
  "a killed worker's message is another's next attempt": [
    [
      ...published(1),
      joined("w1"),
      started(2, "w1", 1),
      fault(3, 4, "SIGKILL", { to: "w1" }),
      ...handled(12, "w2", 1, 2)
    ],
    { at: 5000, consumers: ["consumer-of-w1"] }
  ],
  "a settlement whose lease was lost is refused": [
    [
      ...published(1),
      started(2, "w1", 1),
      ended(3, "w1", 1),
      ...handled(12, "w2", 1, 2),
      settled(30, "w1", 1, "Ack", "lost")
    ]
  ],
  "a settlement that was repeated, and found nothing": [
    [...published(1), ...handled(2, "w1", 1), settled(30, "w1", 1, "Ack", "unknown")]
  ],
  "an ack that was on its way when another one was given the entry": [
    [
      ...published(1),
      fetched(2, "w1", 1),
      started(3, "w1", 1),
      ended(4, "w1", 1),
      fetched(10, "w2", 1, 2),
      settled(20, "w1", 1, "Ack", "done", 1, entryOf(1), 9)
    ]
  ],
  "an attempt that was given back is begun again": [
    [...published(1), started(2, "w1", 1), settled(3, "w1", 1, "Release"), ...handled(12, "w2", 1)]
  ],
  "a worker that was cut off begins late what another one has, and finds nothing to settle": [
    [
      ...published(1),
      fetched(2, "w1", 1),
      fetched(10, "w2", 1),
      started(11, "w1", 1),
      ...handled(12, "w2", 1),
      ended(13, "w1", 1),
      settled(20, "w1", 1, "Ack", "error"),
      settled(30, "w1", 1, "Ack", "unknown")
    ]
  ],
  "a worker that was cut off is given again what it is about to ack, which is refused": [
    [
      ...published(1),
      fetched(2, "w1", 1),
      started(3, "w1", 1),
      ended(4, "w1", 1),
      settled(5, "w1", 1, "Ack", "lost"),
      ...handled(6, "w1", 1)
    ]
  ],
  "a frozen worker begins late what another one has done": [
    [...published(1), ...handled(2, "w2", 1), fault(1, 20, "SIGSTOP", { to: "w1" }), started(21, "w1", 1)]
  ],
  "a flush loses what was there": [[...published(1), fault(50, 60, "FLUSHALL", { loses: "all" })]],
  "a crash loses what was confirmed just before": [[...published(1, 40), fault(50, 60, "crash", { loses: 20 })]],
  "a crash loses a settlement, which is made again": [
    [...published(1), ...handled(40, "w1", 1), fault(50, 60, "crash", { loses: 20 }), ...handled(70, "w2", 1)]
  ],
  "a frozen master confirms, as it wakes, what was acked at its heir": [
    [
      ...published(1),
      started(2, "w1", 1),
      ended(3, "w1", 1),
      fault(5, 60, "master freezes", { loses: 20 }),
      ...handled(62, "w2", 1, 2),
      settled(70, "w1", 1, "Ack", "done", 1, entryOf(1), 6)
    ]
  ],
  "as many are gone as were trimmed": [
    [...published(1), [2, "rig", { is: "fault", what: "XTRIM", from: 1, trimmed: 1 }]],
    {},
    { trims: true }
  ],
  "one was trimmed while it was handled, by a worker that lost its lease meanwhile": [
    [
      ...published(1),
      started(2, "w1", 1),
      [3, "rig", { is: "fault", what: "XTRIM", from: 1, trimmed: 1 }],
      ended(4, "w1", 1, "failed"),
      settled(6, "w1", 1, "Retry", "lost")
    ],
    {},
    { trims: true }
  ],
  "messages of one key, each after the other": [
    [...published(1), ...published(2), ...handled(10, "w1", 1), ...handled(20, "w2", 2)],
    {},
    { keyOf: () => "k" }
  ],
  "messages of two keys at once": [
    [...published(1), ...published(2), ...handled(10, "w1", 1), ...handled(11, "w2", 2)],
    {},
    { keyOf: String }
  ],
  "a frozen worker begins a message of a key late": [
    [
      ...published(1),
      ...published(2),
      ...handled(10, "w1", 1, 2),
      ...handled(20, "w1", 2),
      started(30, "w2", 1),
      settled(31, "w2", 1, "Ack", "lost")
    ],
    {},
    { keyOf: () => "k" }
  ],
  "a settlement that was asked for before a worker with a greater fence began": [
    [
      ...published(1),
      ...published(2),
      started(2, "w1", 1, 1, entryOf(1), 1),
      ended(3, "w1", 1),
      started(10, "w2", 2, 1, entryOf(2), 2),
      ended(11, "w2", 2),
      acked(12, "w2", 2, 2),
      acked(20, "w1", 1, 1, 9)
    ]
  ],
  "a worker that lost its partition is given the same again, under a greater fence than others had meanwhile": [
    [
      ...published(1),
      ...published(2),
      started(2, "w1", 1, 1, entryOf(1), 1),
      settled(3, "w1", 1, "Ack", "lost", 1, entryOf(1), 2, 1),
      started(10, "w2", 2, 1, entryOf(2), 2),
      ended(11, "w2", 2),
      acked(12, "w2", 2, 2),
      fetched(19, "w1", 1),
      started(20, "w1", 1, 1, entryOf(1), 3),
      ended(21, "w1", 1),
      acked(22, "w1", 1, 3)
    ]
  ],
  "a dead letter of a message whose processes died": [
    [...published(1), started(2, "w1", 1)],
    { letters: [{ sub, n: 1, reason: "exhausted", attempts: 3 }] },
    { deaths: true }
  ]
}

describe("the checker of histories", () => {
  for (const [invariant, made] of Object.entries(bad)) {
    for (const [what, history] of Object.entries(made)) {
      it(`${invariant} is violated by: ${what}`, () => expect(broken(...history)).toStrictEqual([invariant]))
    }
  }
  for (const [what, history] of Object.entries(good)) {
    it(`nothing is violated by: ${what}`, () => expect(judged(...history)).toStrictEqual([]))
  }

  it("has an invariant for each of these, and none that is never broken", () => {
    expect(Object.keys(bad)).toStrictEqual(Object.keys(invariants))
  })

  it("counts what a fault of the log took, and what was done again", () => {
    const lines: ReadonlyArray<Line> = [
      ...published(1),
      ...published(2, 40),
      ...handled(41, "w1", 1),
      fault(50, 60, "crash", { loses: 20 }),
      ...handled(70, "w2", 1)
    ]
    const { lost, repeated } = figures(History.make(events(...lines), clean), rules)
    expect({ lost, repeated }).toStrictEqual({ lost: 1, repeated: 1 })
  })

  it("prints everything about a message in order", () => {
    const history = History.make(events(...handled(2, "w1", 1), ...handled(2, "w1", 2), ...published(1)), clean)
    expect(History.table(history, new Set([1])).split("\n")).toStrictEqual([
      "           0 µs  p1           publishing 1",
      "        1000 µs  p1           confirmed 1 (took 1000 µs)",
      "        2000 µs  w1           billing: fetched 1 at main 1-0, attempt 1",
      "        3000 µs  w1           billing: started 1 at main 1-0, attempt 1",
      "        4000 µs  w1           billing: succeeded 1 at main 1-0, attempt 1",
      "        7000 µs  w1           billing: Ack is done 1 at main 1-0, attempt 1 (took 2000 µs)"
    ])
  })
})
