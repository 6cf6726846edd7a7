// The attacks' place at a running ring3d on the host: software functions of another process behind it, the attacker and its
// neighbour before it. One service for all attacks; each has its function as after power-on.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FakeClient } from "../../../packages/ring3/src/vfio-user/fake-client.ts";
import { program, type Program } from "../killed-service.ts";
import type { DeviceRegisters, OwnerView, Scene, ServiceSockets } from "./attack.ts";
import { ClientNeighbour } from "./client-neighbour.ts";
import { ServiceOwner } from "./service-owner.ts";
import { targetRanges, targetRegisters } from "./target-device.ts";
import { PATIENCE_MS } from "./wire.ts";

const MAIN = new URL("../../../packages/cli/src/main.ts", import.meta.url).pathname;
const SERVER = new URL("./target-server.ts", import.meta.url).pathname;
const OWN = "own";
const NEIGHBOUR = "other";
const FOREIGN = "foreign";
const QUEUE = 2;
const uid = process.geteuid?.() ?? 0;

interface Hardware {
  readonly config: readonly number[];
  readonly tableEntry: readonly number[];
  readonly maps: number;
}

/** ring3d, with the process behind it. Disposal ends both. */
export class AttackedService implements AsyncDisposable {
  readonly place: string;
  readonly sockets: ServiceSockets;
  readonly #hardware: ChildProcess;
  readonly #ring3d: Program;
  readonly owner: ServiceOwner;

  private constructor(place: string, hardware: ChildProcess, ring3d: Program, owner: ServiceOwner) {
    this.place = place;
    this.#hardware = hardware;
    this.#ring3d = ring3d;
    this.owner = owner;
    const at = (name: string): string => join(place, `${name}.sock`);
    this.sockets = {
      users: at("users"),
      control: at("control"),
      metrics: at("metrics"),
      foreign: { name: FOREIGN, path: at(FOREIGN) },
      queue: QUEUE,
    };
  }

  static async start(): Promise<AttackedService> {
    await using stack = new AsyncDisposableStack();
    const place = mkdtempSync(join(tmpdir(), "ring3d-attacked-"));
    stack.defer(() => rmSync(place, { recursive: true }));
    const at = (name: string): string => join(place, `${name}.sock`);
    const real = [OWN, NEIGHBOUR, FOREIGN].map((name) => at(`real-${name}`));
    const hardware = fork(SERVER, real, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    stack.defer(() => void hardware.kill("SIGKILL"));
    await once(hardware, "message");
    const ranges = targetRanges.map(({ bar, offset, size, access, writesPerSecond }) => {
      const limit = writesPerSecond === undefined ? "" : `:${writesPerSecond}`;
      return `bar${bar}+${offset}+${size}=${access}${limit}`;
    });
    const configuration = [OWN, NEIGHBOUR, FOREIGN].map((name) => {
      const user = name === FOREIGN ? uid + 1 : uid;
      return `  ${name}: { address: "vfio-user:${at(`real-${name}`)}", socket: ${at(name)}, users: [${user}], lock-limit: 1M,
    maps: 64, queue: ${name === OWN ? QUEUE : 0}, ranges: ${JSON.stringify(ranges)} }`;
    });
    const sockets = ["control", "users-socket", "metrics"].map((name) => `${name}: ${at(name.replace("-socket", ""))}`);
    const file = join(place, "ring3d.yaml");
    writeFileSync(file, [...sockets, `traces: ${place}`, "functions:", ...configuration, ""].join("\n"));
    const ring3d = program([MAIN, "daemon", "--config", file]);
    stack.defer(() => void ring3d.child.kill("SIGKILL"));
    await ring3d.line(/ready/);
    const owner = new ServiceOwner({
      control: at("control"),
      metrics: at("metrics"),
      pid: ring3d.child.pid ?? 0,
    });
    stack.move();
    return new AttackedService(place, hardware, ring3d, owner);
  }

  path(name: string): string {
    return join(this.place, `${name}.sock`);
  }

  async view(name: string): Promise<OwnerView> {
    const heard = once(this.#hardware, "message");
    this.#hardware.send(this.path(`real-${name}`));
    const [{ config, tableEntry, maps }] = (await heard) as [Hardware];
    const view = await this.owner.view(name);
    return {
      ...view,
      config: Uint8Array.from(config),
      tableEntry: Uint8Array.from(tableEntry),
      maps: view.maps + maps,
    };
  }

  /** Ends the service as an administrator does; gives its exit status. */
  async stop(): Promise<number | string> {
    this.#ring3d.child.kill("SIGTERM");
    return await this.#ring3d.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ring3d.child.kill("SIGKILL");
    await this.#ring3d.ended;
    const ended = once(this.#hardware, "exit");
    this.#hardware.kill("SIGKILL");
    await ended;
    rmSync(this.place, { recursive: true });
  }
}

export class ServiceScene implements Scene, Disposable {
  readonly client: FakeClient;
  readonly name: string = OWN;
  readonly path: string;
  readonly registers: DeviceRegisters = targetRegisters;
  readonly neighbour: ClientNeighbour;
  /** Nothing: a software device reaches what was mapped, and no address of the host's. */
  readonly host: Scene["host"] = { address: 0x10_0000, content: 0xc5c5_c5c5 };
  readonly service: ServiceSockets;
  readonly #attacked: AttackedService;
  readonly #before: Readonly<Record<string, number>>;

  private constructor(
    attacked: AttackedService,
    client: FakeClient,
    neighbour: ClientNeighbour,
    before: Readonly<Record<string, number>>,
  ) {
    this.#attacked = attacked;
    this.client = client;
    this.neighbour = neighbour;
    this.path = attacked.path(OWN);
    this.service = attacked.sockets;
    this.#before = before;
  }

  static async open(attacked: AttackedService): Promise<ServiceScene> {
    using stack = new DisposableStack();
    const neighbour = stack.use(await ClientNeighbour.open(NEIGHBOUR, attacked.path(NEIGHBOUR)));
    const client = stack.use(await FakeClient.open(attacked.path(OWN), { max_msg_fds: 16 }, PATIENCE_MS));
    const { hits } = await attacked.view(OWN);
    stack.move();
    return new ServiceScene(attacked, client, neighbour, hits);
  }

  connect(path: string = this.path): FakeClient {
    return FakeClient.connect(path, PATIENCE_MS);
  }

  view(): Promise<OwnerView> {
    return this.#attacked.view(OWN);
  }

  async hits(rule: string): Promise<number> {
    return ((await this.view()).hits[rule] ?? 0) - (this.#before[rule] ?? 0);
  }

  async takeAway(): Promise<void> {
    await this.#attacked.owner.kick(OWN);
  }

  async next(client: FakeClient = this.client): Promise<FakeClient> {
    client[Symbol.dispose]();
    return await FakeClient.open(this.path, { max_msg_fds: 16 }, PATIENCE_MS);
  }

  [Symbol.dispose](): void {
    this.client[Symbol.dispose]();
    this.neighbour[Symbol.dispose]();
  }
}
