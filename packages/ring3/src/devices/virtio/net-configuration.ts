// What a virtio network device can be asked for, and what it says of itself to drivers: features and configuration. Virtio 1.3,
// sections 5.1.3 and 5.1.4.
import { Ring3Error } from "../../binary/error.ts";
import { isGroupMac, parseMacText } from "../../specs/ethernet/index.ts";
import { NetFeature } from "../../specs/virtio/features.ts";
import { VirtioDeviceId } from "../../specs/virtio/registers.ts";
import { NetConfig } from "../../specs/virtio/structs.ts";
import type { VirtioModel, VirtioOptions } from "./function-declaration.ts";
import type { NetLink } from "./net-link.ts";

export interface VirtioNetOptions extends VirtioOptions {
  /** What the device is plugged into; `VirtioNet.plug` changes it. */
  readonly link?: NetLink;
  /** `52:54:00:12:34:56`; a random local address by default. */
  readonly mac?: string;
  /** Largest payload of a frame; offered to the driver where it is given. 1500 otherwise. */
  readonly mtu?: number;
  /** Pairs of queues, 1 (default) to 32. */
  readonly queuePairs?: number;
  /**
   * Whether the device checks the checksums of received frames for drivers that ask for it (GUEST_CSUM); false by default.
   */
  readonly receiveChecksums?: boolean;
  /** What the device claims in Mbit/s; 10,000 by default. */
  readonly speedMbps?: number;
  /** Frames that wait for buffers of the driver, for each receive queue; 256 by default. */
  readonly backlogFrames?: number;
}

const ETHERNET_CONTROLLER = 0x020000;
const MAXIMUM_PAIRS = 32;
export const DEFAULT_MTU = 1500;

/** Throws `VIRTIO_OPTION` for what no device can be. */
export function checkNetOptions({ queuePairs = 1, mtu }: VirtioNetOptions): void {
  if (!(Number.isInteger(queuePairs) && queuePairs >= 1 && queuePairs <= MAXIMUM_PAIRS)) {
    throw new Ring3Error(
      "VIRTIO_OPTION",
      `a network device has 1 to ${MAXIMUM_PAIRS} pairs of queues, not ${queuePairs}`,
    );
  }
  if (mtu !== undefined && !(Number.isInteger(mtu) && mtu >= 68 && mtu <= 65535)) {
    throw new Ring3Error("VIRTIO_OPTION", `an MTU is 68 to 65535 bytes, not ${mtu}`);
  }
}

/** The kind of device, with the features that this one offers. */
export function netModel({ queuePairs = 1, mtu, receiveChecksums = false }: VirtioNetOptions): VirtioModel {
  return {
    name: "virtio-net",
    deviceId: VirtioDeviceId.NET,
    classCode: ETHERNET_CONTROLLER,
    queues: 2 * queuePairs + 1,
    configSize: NetConfig.size,
    features: [
      NetFeature.CSUM,
      NetFeature.MAC,
      NetFeature.MRG_RXBUF,
      NetFeature.STATUS,
      NetFeature.CTRL_VQ,
      NetFeature.CTRL_RX,
      NetFeature.CTRL_RX_EXTRA,
      NetFeature.CTRL_VLAN,
      NetFeature.CTRL_MAC_ADDR,
      NetFeature.GUEST_ANNOUNCE,
      NetFeature.SPEED_DUPLEX,
      ...(receiveChecksums ? [NetFeature.GUEST_CSUM] : []),
      ...(mtu === undefined ? [] : [NetFeature.MTU]),
      ...(queuePairs > 1 ? [NetFeature.MQ] : []),
    ],
  };
}

/** struct virtio_net_config, but for the address and the status. */
export function netConfiguration(options: VirtioNetOptions): Uint8Array {
  return NetConfig.bytes({
    max_virtqueue_pairs: options.queuePairs ?? 1,
    mtu: options.mtu ?? DEFAULT_MTU,
    speed: options.speedMbps ?? 10_000,
    duplex: 1,
  });
}

/** The number of an address as people write it. Throws `VIRTIO_OPTION`. */
export function parseMac(text: string): number {
  const mac = parseMacText(text);
  if (mac === undefined) {
    throw new Ring3Error("VIRTIO_OPTION", `a MAC address is written like 52:54:00:12:34:56, not ${text}`);
  }
  if (isGroupMac(mac) || mac === 0) {
    throw new Ring3Error("VIRTIO_OPTION", `${text} is an address for groups; the first byte of a device's own is even`);
  }
  return mac;
}

/** A local address, of the range that is usual for guests: 52:54:00 and three random bytes. */
export function randomMac(): number {
  const [a = 0, b = 0, c = 0] = crypto.getRandomValues(new Uint8Array(3));
  return 0x52_5400 * 2 ** 24 + (a << 16) + (b << 8) + c;
}
