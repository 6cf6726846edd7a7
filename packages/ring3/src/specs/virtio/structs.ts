// Device configuration and message formats of the block and network devices: virtio 1.3, sections 5.1 and 5.2.
import { layout } from "../../binary/layout.ts";
import type { LayoutValue } from "../../binary/layout.ts";
import type { Struct } from "../../binary/struct.ts";

const blockConfig = {
  capacity: [0, "u64"],
  size_max: [8, "u32"],
  seg_max: [12, "u32"],
  cylinders: [16, "u16"],
  heads: [18, "u8"],
  sectors: [19, "u8"],
  blk_size: [20, "u32"],
  physical_block_exp: [24, "u8"],
  alignment_offset: [25, "u8"],
  min_io_size: [26, "u16"],
  opt_io_size: [28, "u32"],
  writeback: [32, "u8"],
  num_queues: [34, "u16"],
  max_discard_sectors: [36, "u32"],
  max_discard_seg: [40, "u32"],
  discard_sector_alignment: [44, "u32"],
  max_write_zeroes_sectors: [48, "u32"],
  max_write_zeroes_seg: [52, "u32"],
  write_zeroes_may_unmap: [56, "u8"],
} as const;
/** struct virtio_blk_config up to what this device offers, section 5.2.4. `capacity` counts sectors of 512 bytes. */
export const BlockConfig: Struct<LayoutValue<typeof blockConfig>> = layout("virtio_blk_config", 60, blockConfig);
/** The unit of `sector` and `capacity`, whatever `blk_size` says, section 5.2.6. */
export const SECTOR_BYTES = 512;

const blockRequest = { type: [0, "u32"], reserved: [4, "u32"], sector: [8, "u64"] } as const;
/** What a block request begins with, section 5.2.6. */
export const BlockRequestHeader: Struct<LayoutValue<typeof blockRequest>> = layout("virtio_blk_req", 16, blockRequest);
/** 32-bit words of the request header, for hot paths. */
export const BlockRequestWord = { TYPE: 0, RESERVED: 1, SECTOR_LOW: 2, SECTOR_HIGH: 3 } as const;
const blockRange = { sector: [0, "u64"], num_sectors: [8, "u32"], flags: [12, "u32"] } as const;
/** One range of discard and write zeroes, section 5.2.6. */
export const BlockRange: Struct<LayoutValue<typeof blockRange>> = layout(
  "virtio_blk_discard_write_zeroes",
  16,
  blockRange,
);
/** Bit 0 of the range's flags: the device may unmap. */
export const BLOCK_RANGE_UNMAP = 1;
/** Request types, section 5.2.6. */
export const BlockRequest = {
  IN: 0,
  OUT: 1,
  FLUSH: 4,
  GET_ID: 8,
  GET_LIFETIME: 10,
  DISCARD: 11,
  WRITE_ZEROES: 13,
} as const;
/** Values of the status byte that ends a request, section 5.2.6. */
export const BlockStatus = { OK: 0, IO_ERROR: 1, UNSUPPORTED: 2 } as const;
/** Bytes of the identification that GET_ID fetches, padded with NUL. */
export const BLOCK_ID_BYTES = 20;

const netConfig = {
  mac: [0, "bytes", 6],
  status: [6, "u16"],
  max_virtqueue_pairs: [8, "u16"],
  mtu: [10, "u16"],
  speed: [12, "u32"],
  duplex: [16, "u8"],
} as const;
/** struct virtio_net_config up to what this device offers, section 5.1.4. `speed` counts Mbit/s. */
export const NetConfig: Struct<LayoutValue<typeof netConfig>> = layout("virtio_net_config", 20, netConfig);
/** Bits of `status`, section 5.1.4. */
export const NetStatus = { LINK_UP: 1, ANNOUNCE: 2 } as const;

const netHeader = {
  flags: [0, "u8"],
  gso_type: [1, "u8"],
  hdr_len: [2, "u16"],
  gso_size: [4, "u16"],
  csum_start: [6, "u16"],
  csum_offset: [8, "u16"],
  num_buffers: [10, "u16"],
} as const;
/** struct virtio_net_hdr without hash report: what every frame in a queue begins with, section 5.1.6. */
export const NetHeader: Struct<LayoutValue<typeof netHeader>> = layout("virtio_net_hdr", 12, netHeader);
/** Bits of `flags`, section 5.1.6. */
export const NetHeaderFlag = { NEEDS_CSUM: 1, DATA_VALID: 2 } as const;
/** Values of `gso_type`, section 5.1.6. */
export const NetGso = { NONE: 0, TCPV4: 1, UDP: 3, TCPV6: 4, UDP_L4: 5, ECN: 0x80 } as const;

/** Classes of control commands, section 5.1.6.5. */
export const NetControl = { RX: 0, MAC: 1, VLAN: 2, ANNOUNCE: 3, MQ: 4 } as const;
/** Commands of class RX, section 5.1.6.5.1: one byte, on or off. */
export const NetControlRx = { PROMISC: 0, ALLMULTI: 1, ALLUNI: 2, NOMULTI: 3, NOUNI: 4, NOBCAST: 5 } as const;
/** Commands of class MAC, section 5.1.6.5.2. */
export const NetControlMac = { TABLE_SET: 0, ADDR_SET: 1 } as const;
/** Commands of class VLAN, section 5.1.6.5.3. */
export const NetControlVlan = { ADD: 0, DEL: 1 } as const;
/** Commands of class ANNOUNCE, section 5.1.6.5.4. */
export const NetControlAnnounce = { ACK: 0 } as const;
/** Commands of class MQ, section 5.1.6.5.5. */
export const NetControlMq = { VQ_PAIRS_SET: 0 } as const;
/** The answer to a control command. */
export const NetControlAck = { OK: 0, ERROR: 1 } as const;
