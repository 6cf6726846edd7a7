export type { GigabitDevice } from "../gigabit/device.ts";
export type { PassingPacket } from "../gigabit/burst-emitted.ts";
export { Forwarder } from "../gigabit/forwarder.ts";
export type { GigabitOptions } from "../gigabit/settings.ts";
export { IgbDriver, IgbVfDriver } from "./driver.ts";
