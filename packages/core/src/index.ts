/**
 * Clutch: functional stream processing for Effect applications.
 *
 * @since 0.1.0
 */
export * as Agent from "./Agent.ts"
export * as CloudEvent from "./CloudEvent.ts"
export * as DeadLetters from "./DeadLetters.ts"
export { Delivery } from "./Delivery.ts"
export type { Delivered, DeliveryInfo, Settle } from "./Delivery.ts"
export * from "./Errors.ts"
export * as MemoryTransport from "./MemoryTransport.ts"
export type { Message } from "./Message.ts"
export * as Metrics from "./Metrics.ts"
export * as Names from "./Names.ts"
export { Reclaimer } from "./Reclaimer.ts"
export * as RetryPolicy from "./RetryPolicy.ts"
export type { Source } from "./Source.ts"
export * as Subscription from "./Subscription.ts"
export * as Topic from "./Topic.ts"
export * as Tracing from "./Tracing.ts"
export { Transport } from "./Transport.ts"
