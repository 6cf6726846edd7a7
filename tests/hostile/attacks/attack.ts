// What an attack is, and what it needs of the place where it is tried: one list of attacks for functions of all kinds.
import type { FunctionState } from "../../../packages/cli/src/ring3d/service-interface.ts";
import type { FakeClient } from "../../../packages/ring3/src/vfio-user/fake-client.ts";

/** What a place has that only some attacks need. */
export type Trait =
  /** The device can be told to read and write memory. */
  | "dma"
  /** It can be told so with bus mastering off, too. */
  | "dma-unbidden"
  /** It can be told which vector to signal. */
  | "raise"
  | "msi"
  | "msix"
  /** What the hardware has in its MSI-X table can be looked at. */
  | "msix-table"
  | "flr"
  | "pm"
  | "vendor-specific"
  | "rebar"
  /** A register that keeps what is written until the function is reset. */
  | "mark"
  /** A reset takes milliseconds. */
  | "quick-reset"
  /** Ranges of BAR 0 that the owner keeps from users. */
  | "ranges"
  /** An IOMMU with a window for interrupt messages. */
  | "message-window"
  /** The attacker and its neighbour are one user, or one process. */
  | "same-user"
  | "same-process"
  /** A running ring3d, with its other sockets. */
  | "service"
  /** The attacker is not who runs it. */
  | "unprivileged"
  /** The attacker may have the kernel's own descriptors of the function, or may not. */
  | "lent"
  | "not-lent";

/** The attacked function as its owner sees it, behind the mediator. */
export interface OwnerView {
  /** The hardware's own config space. */
  readonly config: Uint8Array;
  /** The first entry of the hardware's MSI-X table, where that can be looked at. */
  readonly tableEntry: Uint8Array | undefined;
  /** Maps of its user that the mediator has. */
  readonly maps: number;
  readonly lockedBytes: number;
  readonly state: FunctionState;
  /** Why it failed. */
  readonly reason: string | undefined;
  /** How often a rule was hit, by rule, since the mediator began. */
  readonly hits: Readonly<Record<string, number>>;
  /** File descriptors that the mediator's process has open. */
  readonly descriptors: number;
}

/** Registers of a device that attacks know, by their offset in BAR 0. */
export interface DeviceRegisters {
  /** The interrupts that it is driven by, as the protocol numbers their kinds. */
  readonly interrupts: number;
  readonly mark?: { readonly offset: number; readonly value: number };
  /** Signals the vector that is written to it. */
  readonly raise?: number;
  /** What the owner's rules keep: `shadow` tells what `hidden` holds. */
  readonly ranges?: {
    readonly hidden: number;
    readonly shadow: number;
    readonly readOnly: number;
    readonly limited: number;
    readonly writesPerSecond: number;
  };
  /** Has the device read 4 bytes, and tells whether it got `expected`. */
  reads?(client: FakeClient, address: number, expected: number): Promise<boolean>;
  /** Has the device write something there, and tells whether it could. */
  writes?(client: FakeClient, address: number): Promise<boolean>;
}

/** Who has the other function, and what it has to lose. */
export interface Neighbour {
  readonly name: string;
  readonly path: string;
  /** Where its memory lies, in its own addresses. */
  readonly iova: number;
  readonly size: number;
  /** What every word of its memory is. */
  readonly content: number;
  /** Throws unless its function does right, nobody reset it, and its memory is as it was. */
  check(): Promise<void>;
  /** Interrupts that it got and did not ask for, since the last look. */
  strayInterrupts(): Promise<number>;
}

/** The sockets of a service besides the functions'. */
export interface ServiceSockets {
  readonly users: string;
  readonly control: string;
  readonly metrics: string;
  /** A function of the service that is not for the attacker. */
  readonly foreign: { readonly name: string; readonly path: string };
  /** How many may wait for the attacked function. */
  readonly queue: number;
}

/** One attack's place: an attacker that has a function, just reset, and what there is to attack. */
export interface Scene {
  /** The attacker's own opening. */
  readonly client: FakeClient;
  readonly name: string;
  readonly path: string;
  readonly registers: DeviceRegisters;
  readonly neighbour: Neighbour;
  /** The host's own memory, as a device without an IOMMU would reach it, and what every word of it is. */
  readonly host: { readonly address: number; readonly content: number };
  readonly service: ServiceSockets | undefined;
  /** A connection to the attacked function's socket, or to another one, that has said nothing yet. */
  connect(path?: string): FakeClient;
  view(): Promise<OwnerView>;
  /** Times that a rule was hit in this scene. */
  hits(rule: string): Promise<number>;
  /** Has the owner take the function away. */
  takeAway(): Promise<void>;
  /** The attacker hangs up, or this client of its; gives the next user of its function. */
  next(client?: FakeClient): Promise<FakeClient>;
}

export interface Attack {
  readonly group: "DMA" | "Config space" | "BARs" | "Interrupts" | "Hand-over" | "Protocol" | "Service";
  readonly what: string;
  /** What comes of it, as `run` tells it. */
  readonly outcome: string;
  /** Where it can be tried: everywhere by default. */
  readonly needs?: readonly Trait[];
  run(scene: Scene): Promise<string>;
}
