export type { DeviceClock } from "../clock.ts";
export { EduDevice, type EduDeviceOptions } from "./device.ts";
