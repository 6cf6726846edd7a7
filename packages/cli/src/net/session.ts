// What the network commands share: opening a device with its driver, starting a stack on it, their options.
import type { PciFunction } from "ring3";
import type { NetDevice, NetDeviceOptions, Stack, StackDevice } from "ring3/net";
import type { OperandDeclaration } from "../command.ts";
import type { Context } from "../context.ts";
import { type Opening, openFunction } from "../open-function.ts";
import { UsageError } from "../usage-error.ts";

export const NETWORK_DEVICE: OperandDeclaration = {
  name: "ADDRESS",
  description: "a network function that you may open (ring3 ls), or vfio-user:PATH",
};

/** Options of every command that opens a network device, besides those of every back end. */
export const DEVICE_OPTIONS = {
  interrupts: {
    kind: "choice",
    choices: ["msix", "msi", "intx", "none"],
    description: "which interrupts to use (default: the best it has)",
  },
  mode: {
    kind: "choice",
    choices: ["adaptive", "polled", "interrupt"],
    description: "how to wait for packets (default: look for a while, then wait for an interrupt)",
  },
  ring: {
    kind: "integer",
    value: "ENTRIES",
    minimum: 16n,
    maximum: 4096n,
    initial: 256n,
    description: "entries of each ring",
  },
  "wait-link": {
    kind: "integer",
    value: "SECONDS",
    minimum: 0n,
    maximum: 600n,
    initial: 10n,
    description: "how long to wait for a link",
  },
} as const;

/** Options of every command that speaks IP, besides {@link DEVICE_OPTIONS}. */
export const STACK_OPTIONS = {
  ip: { kind: "text", value: "ADDRESS/PREFIX", description: "our address, as 192.0.2.1/24" },
  gateway: { kind: "text", value: "ADDRESS", description: "where everything goes that is not on this link" },
  dhcp: { kind: "flag", description: "take an address by DHCP" },
  vlan: { kind: "integer", value: "ID", minimum: 1n, maximum: 4094n, description: "the VLAN to speak in" },
} as const;

/** Values of {@link DEVICE_OPTIONS}. */
export interface DeviceWords extends Opening {
  readonly interrupts: string | undefined;
  readonly mode: string | undefined;
  readonly ring: bigint;
  readonly "wait-link": bigint;
}

/** Values of {@link STACK_OPTIONS} and {@link DEVICE_OPTIONS}. */
export interface StackWords extends DeviceWords {
  readonly ip: string | undefined;
  readonly gateway: string | undefined;
  readonly dhcp: boolean;
  readonly vlan: bigint | undefined;
}

/** Opens a device with the driver that fits it, and waits for its link; `resources` closes both. */
export async function openDevice(
  address: string,
  words: DeviceWords,
  context: Context,
  resources: AsyncDisposableStack,
  optionsFor: (fn: PciFunction) => Promise<NetDeviceOptions> | NetDeviceOptions = () => ({}),
): Promise<NetDevice> {
  const fn = resources.use(await openFunction(address, words, context));
  const { openNetDevice } = await import("ring3/net");
  const device = resources.use(
    await openNetDevice(fn, {
      ringEntries: Number(words.ring),
      ...(words.interrupts === undefined
        ? {}
        : { interrupts: words.interrupts as NonNullable<NetDeviceOptions["interrupts"]> }),
      ...(words.mode === undefined ? {} : { receiveMode: words.mode as NonNullable<NetDeviceOptions["receiveMode"]> }),
      ...(await optionsFor(fn)),
    }),
  );
  const seconds = Number(words["wait-link"]);
  if (seconds > 0) await device.waitForLink({ timeoutMs: 1000 * seconds, signal: context.signal });
  return device;
}

/** Checks the options that give an address, before anything is opened. */
export function checkAddressing(words: Pick<StackWords, "ip" | "dhcp" | "gateway">): void {
  if (words.dhcp === (words.ip !== undefined)) {
    throw new UsageError("our address: give either --ip ADDRESS/PREFIX or --dhcp");
  }
  if (words.dhcp && words.gateway !== undefined) throw new UsageError("--gateway goes with --ip; DHCP brings its own");
}

/** Opens a device and starts a stack on it. */
export async function openStack(
  address: string,
  words: StackWords,
  context: Context,
  resources: AsyncDisposableStack,
): Promise<{ readonly device: NetDevice; readonly stack: Stack }> {
  checkAddressing(words);
  const device = await openDevice(address, words, context, resources);
  return { device, stack: await startStack(device, device, words, context, resources) };
}

/** Starts a stack on the device, or on what stands for it. */
export async function startStack<Over extends StackDevice>(
  device: NetDevice,
  over: Over,
  words: StackWords,
  context: Context,
  resources: AsyncDisposableStack,
): Promise<Stack<Over>> {
  const { Stack } = await import("ring3/net");
  const stack = resources.use(
    await Stack.start(over, {
      ...(words.ip === undefined ? { dhcp: { signal: context.signal } } : { address: words.ip }),
      ...(words.gateway === undefined ? {} : { gateway: words.gateway }),
      ...(words.vlan === undefined ? {} : { vlan: Number(words.vlan) }),
    }),
  );
  const { address: own } = stack.configuration;
  context.progress.step(`${device.driver} at ${device.address}, ${stack.configuration.mac}, ${own}`);
  return stack;
}

/** `192.0.2.1` or `192.0.2.1:7`. */
export function parsePeer(text: string, defaultPort: number): { readonly address: string; readonly port: number } {
  const [, address = "", digits] = /^(\d+\.\d+\.\d+\.\d+)(?::(\d+))?$/.exec(text) ?? [];
  const port = digits === undefined ? defaultPort : Number(digits);
  const fits = address.split(".").every((part) => Number(part) <= 255);
  if (address === "" || !fits || port < 1 || port > 65_535) {
    throw new UsageError(`a peer is written like 192.0.2.1 or 192.0.2.1:7, not "${text}"`);
  }
  return { address, port };
}
