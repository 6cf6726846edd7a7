// The attacks' place in one process: two mediated functions, each with its server, the attacker's client and the neighbour's.
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type MediatedFunction, mediate } from "../../../packages/ring3/src/mediation/index.ts";
import { FakeClient } from "../../../packages/ring3/src/vfio-user/fake-client.ts";
import { serve } from "../../../packages/ring3/src/vfio-user/server.ts";
import { inProcess } from "../../../packages/ring3/src/virtual/index.ts";
import type { DeviceRegisters, OwnerView, Scene } from "./attack.ts";
import { ClientNeighbour } from "./client-neighbour.ts";
import { hardwareOf, TargetDevice, targetRanges, targetRegisters } from "./target-device.ts";
import { PATIENCE_MS } from "./wire.ts";

const LOCKED_BYTES = 0x10_0000;
const MAPS = 64;
const OWN = "own";
const NEIGHBOUR = "other";

interface Place {
  readonly device: TargetDevice;
  readonly mediated: MediatedFunction;
  readonly path: string;
}

export class LibraryScene implements Scene, AsyncDisposable {
  readonly client: FakeClient;
  readonly name: string = OWN;
  readonly path: string;
  readonly registers: DeviceRegisters = targetRegisters;
  readonly neighbour: ClientNeighbour;
  /** The neighbour's function, as its owner has it. */
  readonly neighbourFunction: MediatedFunction;
  /** Nothing: here devices reach what was mapped, and no address of the host's. */
  readonly host: Scene["host"] = { address: 0x10_0000, content: 0xc5c5_c5c5 };
  readonly service = undefined;
  readonly #own: Place;
  readonly #hits: Map<string, number> = new Map();
  readonly #stack: AsyncDisposableStack;

  private constructor(own: Place, other: Place, client: FakeClient, neighbour: ClientNeighbour) {
    this.#own = own;
    this.client = client;
    this.neighbour = neighbour;
    this.neighbourFunction = other.mediated;
    this.path = own.path;
    this.#stack = new AsyncDisposableStack();
    own.mediated.observe({ rule: ({ rule }) => this.#hits.set(rule, (this.#hits.get(rule) ?? 0) + 1) });
  }

  static async open(): Promise<LibraryScene> {
    await using stack = new AsyncDisposableStack();
    const directory = mkdtempSync(join(tmpdir(), "ring3-attack-"));
    stack.defer(() => rmSync(directory, { recursive: true }));
    const place = async (name: string): Promise<Place> => {
      const device = stack.use(new TargetDevice());
      const real = stack.use(inProcess(device));
      const options = { name, lockedBytes: LOCKED_BYTES, maps: MAPS, ranges: targetRanges };
      const mediated = stack.use(await mediate(real, options));
      const path = join(directory, name);
      stack.use(await serve(mediated, path, { clientTimeoutMs: 200, queue: name === OWN ? 1 : 0 }));
      return { device, mediated, path };
    };
    const own = await place(OWN);
    const other = await place(NEIGHBOUR);
    const neighbour = stack.use(await ClientNeighbour.open(NEIGHBOUR, other.path));
    const client = stack.use(await FakeClient.open(own.path, { max_msg_fds: 16 }, PATIENCE_MS));
    const scene = new LibraryScene(own, other, client, neighbour);
    scene.#stack.use(stack.move());
    return scene;
  }

  connect(path: string = this.path): FakeClient {
    return FakeClient.connect(path, PATIENCE_MS);
  }

  view(): Promise<OwnerView> {
    const { device, mediated } = this.#own;
    return Promise.resolve({
      ...hardwareOf(device),
      maps: mediated.memory.count + device.memory.count,
      lockedBytes: mediated.lockedBytes,
      state: mediated.connectedTo === undefined ? "ready" : "used",
      reason: mediated.spoilt?.message,
      hits: Object.fromEntries(this.#hits),
      descriptors: readdirSync("/proc/self/fd").length,
    });
  }

  hits(rule: string): Promise<number> {
    return Promise.resolve(this.#hits.get(rule) ?? 0);
  }

  takeAway(): Promise<void> {
    this.#own.mediated.remove("its owner wants it");
    return Promise.resolve();
  }

  async next(client: FakeClient = this.client): Promise<FakeClient> {
    client[Symbol.dispose]();
    return await FakeClient.open(this.path, { max_msg_fds: 16 }, PATIENCE_MS);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}
