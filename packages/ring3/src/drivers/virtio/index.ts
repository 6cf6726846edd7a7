export { VirtioNetDriver, type VirtioNetDriverOptions } from "./net-driver.ts";
