export type { PassingPacket } from "../net/burst-emitted.ts";
export type { GigabitDevice } from "../gigabit/device.ts";
export { Forwarder } from "../net/forwarder.ts";
export { E1000eDriver } from "./driver.ts";
