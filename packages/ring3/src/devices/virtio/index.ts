export { type BlockBacking, memoryBacking, nullBacking } from "../block-backing.ts";
export { VirtioBlock, type VirtioBlockOptions, type VirtioBlockStatistics } from "./block.ts";
export { VirtioNet, type VirtioNetOptions, type VirtioNetStatistics } from "./net.ts";
export type { NetLink, NetReceiver } from "./net-link.ts";
export { EthernetSwitch, type SwitchOptions, SwitchPort, type SwitchPortStatistics } from "./switch.ts";
export { VirtioFunction, type VirtioModel, type VirtioOptions } from "./transport.ts";
