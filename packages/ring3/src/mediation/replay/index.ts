export { departureText, ReplayDevice, type ReplayOptions, type ReplayResult } from "./device.ts";
export type { Departure, ReplayOrder } from "./player.ts";
