// ring3 serve virtio-net: virtio network cards on a tap, a stream socket of QEMU's, or a switch in this process.
import { type Command, command } from "../../command.ts";
import { SERVER_OPTIONS, serverSettings, socketPath } from "../../serve/server-options.ts";
import { VIRTIO_OPTIONS, virtioSettings } from "../../serve/virtio-options.ts";
import { UsageError } from "../../usage-error.ts";

export const virtioNet: Command = command({
  summary: "serve virtio network cards on a tap, a stream socket or a switch",
  description:
    "One card for each --socket. One card and one tap or stream are plugged together; otherwise all cards and links meet " +
    "in a switch.",
  operands: [],
  options: {
    ...SERVER_OPTIONS,
    socket: { kind: "texts", short: "s", value: "PATH", description: "the UNIX socket of a card" },
    link: {
      kind: "texts",
      value: "LINK",
      description: "tap:NAME, stream:PATH (QEMU's -netdev stream,server=on), or switch",
    },
    mac: {
      kind: "texts",
      value: "ADDRESS",
      description: "a card's address, one for each socket (default: from the path)",
    },
    mtu: {
      kind: "integer",
      value: "BYTES",
      minimum: 68n,
      maximum: 65_535n,
      description: "the largest payload of a frame",
    },
    queues: { kind: "integer", value: "N", minimum: 1n, maximum: 32n, initial: 1n, description: "pairs of queues" },
    ...VIRTIO_OPTIONS,
    "receive-checksums": { kind: "flag", description: "check the checksums of received frames for the driver" },
  },
  examples: [
    { command: "ring3 serve virtio-net --socket /tmp/a.sock --socket /tmp/b.sock", text: "two guests on one switch" },
    {
      command: "ring3 serve virtio-net --link tap:tap0 --socket /tmp/a.sock",
      text: "a guest on the machine's network",
    },
    {
      command: "ring3 serve virtio-net --link stream:/tmp/net.sock --mac 52:54:00:00:00:01 --socket /tmp/a.sock",
      text: "on a network of QEMU's",
    },
  ],
  run: async ({ options }, context) => {
    const paths = options.socket.length === 0 ? [socketPath(undefined)] : options.socket.map(socketPath);
    if (new Set(paths).size !== paths.length) throw new UsageError("each --socket takes another path");
    if (options.state !== undefined && paths.length > 1)
      throw new UsageError("--state keeps one card: give one --socket");
    if (options.mac.length > 0 && options.mac.length !== paths.length) {
      throw new UsageError(
        `${options.mac.length} --mac for ${paths.length} cards: give one for each --socket, or none`,
      );
    }
    for (const mac of options.mac) checkMac(mac);
    const settings = await serverSettings(options, context);
    const { macFor, openNetwork, parseLink } = await import("../../serve/network.ts");
    await using resources = new AsyncDisposableStack();
    const { links, description } = await openNetwork(options.link.map(parseLink), paths.length, resources);
    const [{ VirtioNet }, { serveFunctions }] = await Promise.all([
      import("ring3/devices/virtio"),
      import("../../serve/serve-functions.ts"),
    ]);
    const functions = paths.map((path, index) => {
      const fn = resources.use(
        new VirtioNet({
          ...(links[index] === undefined ? {} : { link: links[index] }),
          mac: options.mac[index] ?? macFor(path),
          ...(options.mtu === undefined ? {} : { mtu: Number(options.mtu) }),
          queuePairs: Number(options.queues),
          ...virtioSettings(options),
          receiveChecksums: options["receive-checksums"],
        }),
      );
      return { fn, path };
    });
    await serveFunctions({ device: "virtio-net", summary: `on ${description}`, functions }, settings, context);
  },
});

/** Six bytes, of which the first says that it is one card's and not a group's. */
function checkMac(text: string): void {
  if (/^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/i.test(text) && !/^00(:00){5}$/.test(text)) return;
  throw new UsageError(`--mac takes an address of one card, as 52:54:00:12:34:56, not "${text}"`);
}
