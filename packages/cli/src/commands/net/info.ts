// ring3 net info: the driver, the link and what the device can do.
import { macText } from "../../net/mac-text.ts";
import { DEVICE_OPTIONS, NETWORK_DEVICE, openDevice } from "../../net/session.ts";
import { type Command, command } from "../../command.ts";
import { OPEN_OPTIONS } from "../../open-function.ts";
import { columns } from "../../text.ts";

export const info: Command = command({
  summary: "show driver, addresses, link and abilities of a network device",
  description: "Starts the device's driver, which resets the device, and stops it again.",
  operands: [NETWORK_DEVICE],
  options: { ...DEVICE_OPTIONS, ...OPEN_OPTIONS },
  examples: [
    { command: "ring3 net info 03:10.0", text: "a virtual function of an igb" },
    { command: "ring3 net info vfio-user:/tmp/net.sock --wait-link 0", text: "a served device, link or not" },
  ],
  run: async ({ operands, options }, context) => {
    await using resources = new AsyncDisposableStack();
    const device = await openDevice(operands[0] ?? "", options, context, resources);
    const { link, capabilities } = device;
    const value = {
      address: device.address,
      driver: device.driver,
      mac: macText(device.mac),
      mtu: device.mtu,
      link,
      queues: device.queues.length,
      capabilities,
    };
    context.result(value, () => {
      const speed =
        link.speedMbps === 0 ? "" : `, ${link.speedMbps} Mbit/s, ${link.fullDuplex ? "full" : "half"} duplex`;
      const can = Object.entries(capabilities).flatMap(([name, able]) =>
        able === true ? [CAPABILITY[name] ?? name] : [],
      );
      const rows = [
        ["driver", device.driver],
        ["address", value.mac],
        ["link", `${link.up ? "up" : "down"}${speed}`],
        ["MTU", `${device.mtu}, up to ${capabilities.maxMtu}`],
        ["queues", `${value.queues} here, up to ${capabilities.maxQueues}`],
        ["can", can.join(", ")],
      ];
      return `${context.style.bold(device.address)}\n${columns(rows, { indent: 2 })}`;
    });
  },
});

const CAPABILITY: Readonly<Record<string, string>> = {
  receiveChecksums: "check received checksums",
  ipv4Checksum: "compute IPv4 checksums",
  l4Checksum: "compute UDP and TCP checksums",
  vlanOffload: "strip and insert VLAN tags",
  vlanFilter: "filter VLANs",
  promiscuous: "receive everything",
  receiveSteering: "spread packets over queues",
};
