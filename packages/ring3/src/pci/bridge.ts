// What a type 1 header forwards: bus numbers and address windows. PCIe 6.0, sections 7.5.1.3.5 to 7.5.1.3.11.
import type { ConfigSpace } from "./config-space.ts";
import { Header1 } from "./header.ts";

/** A window of addresses, both ends included; closed where `limit` is below `base`. */
export interface BridgeWindow {
  readonly base: bigint;
  readonly limit: bigint;
  readonly open: boolean;
  /** Address bits that the window decodes. */
  readonly bits: 16 | 32 | 64;
}

/** What a bridge passes on. */
export interface BridgeForwarding {
  readonly primaryBus: number;
  readonly secondaryBus: number;
  readonly subordinateBus: number;
  readonly io: BridgeWindow;
  readonly memory: BridgeWindow;
  readonly prefetchable: BridgeWindow;
}

function bridgeWindow(base: bigint, limit: bigint, bits: BridgeWindow["bits"]): BridgeWindow {
  return { base, limit, open: limit >= base, bits };
}

/** Reads the bus numbers and windows of a function whose header is of type 1. */
export function readBridge(config: ConfigSpace): BridgeForwarding {
  const ioBase = config.read(Header1.IO_BASE);
  const ioLimit = config.read(Header1.IO_LIMIT);
  const wideIo = ioBase.ADDRESSING === 1;
  const ioAt = (nibble: number, upper: number): bigint => BigInt(nibble * 0x1000 + (wideIo ? upper * 0x10000 : 0));
  const base = config.read(Header1.PREFETCHABLE_MEMORY_BASE);
  const limit = config.read(Header1.PREFETCHABLE_MEMORY_LIMIT);
  const wide = base.ADDRESSING === 1;
  const at = (blocks: number, upper: number): bigint => BigInt(blocks * 2 ** 20) + (wide ? BigInt(upper) << 32n : 0n);
  return {
    primaryBus: config.readRaw(Header1.PRIMARY_BUS_NUMBER),
    secondaryBus: config.readRaw(Header1.SECONDARY_BUS_NUMBER),
    subordinateBus: config.readRaw(Header1.SUBORDINATE_BUS_NUMBER),
    io: bridgeWindow(
      ioAt(ioBase.BASE, config.readRaw(Header1.IO_BASE_UPPER)),
      ioAt(ioLimit.LIMIT, config.readRaw(Header1.IO_LIMIT_UPPER)) + 0xfffn,
      wideIo ? 32 : 16,
    ),
    memory: bridgeWindow(
      BigInt(config.read(Header1.MEMORY_BASE).BASE * 2 ** 20),
      BigInt(config.read(Header1.MEMORY_LIMIT).LIMIT * 2 ** 20) + 0xfffffn,
      32,
    ),
    prefetchable: bridgeWindow(
      at(base.BASE, config.readRaw(Header1.PREFETCHABLE_BASE_UPPER)),
      at(limit.LIMIT, config.readRaw(Header1.PREFETCHABLE_LIMIT_UPPER)) + 0xfffffn,
      wide ? 64 : 32,
    ),
  };
}
