export type { GigabitDevice } from "../gigabit/device.ts";
export type { GigabitOptions } from "../gigabit/settings.ts";
export { IgbDriver, IgbVfDriver } from "./driver.ts";
