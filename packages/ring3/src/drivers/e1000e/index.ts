export type { GigabitDevice } from "../gigabit/device.ts";
export type { GigabitOptions } from "../gigabit/settings.ts";
export { E1000eDriver } from "./driver.ts";
