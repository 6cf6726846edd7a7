export type { PassingPacket } from "../gigabit/burst-emitted.ts";
export type { GigabitDevice } from "../gigabit/device.ts";
export { Forwarder } from "../gigabit/forwarder.ts";
export { IgbDriver, IgbVfDriver } from "./driver.ts";
