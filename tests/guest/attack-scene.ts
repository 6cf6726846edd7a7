// The attacks' place in the guest: a ring3d that owns real functions, the attacker in the test's own process as uid 1000, a
// neighbour of uid 1001, and root, who looks at everything.
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { FakeClient } from "../../packages/ring3/src/vfio-user/fake-client.ts";
import type { DeviceRegisters, Neighbour, OwnerView, Scene, ServiceSockets } from "../hostile/attacks/attack.ts";
import {
  HOST_CONTENT,
  type MachineView,
  NEIGHBOUR_CONTENT,
  NEIGHBOUR_SIZE,
  type OwnerQuestion,
} from "./attack-places.ts";
import { PATIENCE_MS } from "../hostile/attacks/wire.ts";
import { asRoot, rootOutput } from "./inside.ts";
import { endOf, type RunningService, startService } from "./running-service.ts";

/** Says that faults come, of whichever function. */
const FAULTS_COME = /DRHD: handling fault|dmar_fault: \d+ callbacks suppressed/;

export const QUEUE = 2;
const OWNER = new URL("./suites/attack-owner.ts", import.meta.url).pathname;
const NEIGHBOUR = new URL("./suites/attack-neighbour.ts", import.meta.url).pathname;

/** A process that answers lines of JSON, one after the other. */
class Answerer implements Disposable {
  readonly #socket: Socket;
  readonly #lines: AsyncIterator<string>;

  constructor(path: string) {
    this.#socket = connect(path).on("error", () => undefined);
    this.#lines = createInterface({ input: this.#socket })[Symbol.asyncIterator]();
  }

  async ask<Answer>(question: object): Promise<Answer> {
    this.#socket.write(`${JSON.stringify(question)}\n`);
    const { done, value } = await this.#lines.next();
    assert.ok(done !== true, "it has ended");
    const answer = JSON.parse(value) as { readonly error?: string };
    assert.equal(answer.error, undefined);
    return answer as Answer;
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}

/** Starts a script in the background, as root or another user; resolves with its pid once it has said that it is ready. */
async function background(user: "root" | "other", words: string, out: string): Promise<number> {
  const run = `exec node ${words} > ${out} 2>&1 < /dev/null`;
  const command = user === "root" ? `sh -c '${run}'` : `su ${user} -c '${run}'`;
  await rootOutput(`: > ${out}; chmod 666 ${out}; ${command} & echo $! > ${out}.pid`);
  const ready = await asRoot(`timeout 600 sh -c 'until grep -q ready ${out}; do usleep 50000; done'; cat ${out}`);
  assert.match(ready.stdout, /^ready/);
  return Number(await rootOutput(`cat ${out}.pid`));
}

interface Said {
  readonly iova: number;
  readonly rounds: number;
  readonly stray: number;
}

/** A function as `machine.ts` has it, with what attacks know of it. */
export interface AttackedFunction {
  readonly name: string;
  readonly address: string;
  readonly registers: DeviceRegisters;
}

/** The service, its neighbour and its owner. Disposal ends all of them. */
export class AttackedMachine implements AsyncDisposable {
  readonly place: string;
  readonly neighbour: NeighbourProcess;
  readonly owner: Answerer;
  readonly #service: RunningService;
  readonly #pids: readonly number[];
  readonly #log: string[] = [];

  private constructor(
    place: string,
    service: RunningService,
    neighbour: NeighbourProcess,
    owner: Answerer,
    pids: readonly number[],
  ) {
    this.place = place;
    this.#service = service;
    this.neighbour = neighbour;
    this.owner = owner;
    this.#pids = pids;
  }

  /** `kind` is what the neighbour, uid 1001, has: the function of that name. */
  static async start(
    place: string,
    configuration: string,
    setting: string,
    neighbour: { readonly kind: "edu" | "nvme"; readonly name: string },
  ): Promise<AttackedMachine> {
    await using stack = new AsyncDisposableStack();
    const service = stack.use(await startService(place, configuration, setting));
    const path = `${place}/${neighbour.name}.sock`;
    const pids = [
      await background("root", `${OWNER} ${place} ${service.pid} ${place}/owner.sock`, `${place}/owner`),
      await background("other", `${NEIGHBOUR} ${neighbour.kind} ${path} ${place}/neighbour.sock`, `${place}/neighbour`),
    ];
    const answerer = new Answerer(`${place}/neighbour.sock`);
    const { iova } = await answerer.ask<Said>({});
    const process = new NeighbourProcess(neighbour.name, path, iova, answerer);
    stack.move();
    return new AttackedMachine(place, service, process, new Answerer(`${place}/owner.sock`), pids);
  }

  async view({ name, address }: AttackedFunction): Promise<OwnerView & MachineView> {
    const question: OwnerQuestion = { ask: "view", name, address };
    const { config, tableEntry, ...rest } = await this.owner.ask<
      Omit<OwnerView & MachineView, "config" | "tableEntry"> & {
        readonly config: number[];
        readonly tableEntry?: number[];
      }
    >(question);
    this.#log.push(...rest.log);
    return {
      ...rest,
      config: Uint8Array.from(config),
      tableEntry: tableEntry === undefined ? undefined : Uint8Array.from(tableEntry),
    };
  }

  /** What the kernel has said since the last look. */
  takeLog(): string[] {
    return this.#log.splice(0);
  }

  /** Ends the service as an administrator does. */
  async stop(): Promise<void> {
    await this.#endOthers();
    await this.#service.end("TERM");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#endOthers();
    await this.#service[Symbol.asyncDispose]();
  }

  async #endOthers(): Promise<void> {
    this.owner[Symbol.dispose]();
    this.neighbour[Symbol.dispose]();
    for (const pid of this.#pids) await asRoot(`kill -KILL ${pid} 2> /dev/null; ${endOf(pid)}`);
  }
}

class NeighbourProcess implements Neighbour, Disposable {
  readonly name: string;
  readonly path: string;
  readonly iova: number;
  readonly size: number = NEIGHBOUR_SIZE;
  readonly content: number = NEIGHBOUR_CONTENT;
  readonly #answerer: Answerer;
  #stray = 0;

  constructor(name: string, path: string, iova: number, answerer: Answerer) {
    this.name = name;
    this.path = path;
    this.iova = iova;
    this.#answerer = answerer;
  }

  async check(): Promise<void> {
    const { stray } = await this.#answerer.ask<Said>({});
    this.#stray += stray;
  }

  async strayInterrupts(): Promise<number> {
    await this.check();
    const stray = this.#stray;
    this.#stray = 0;
    return stray;
  }

  [Symbol.dispose](): void {
    this.#answerer[Symbol.dispose]();
  }
}

/** One attack on one function. */
export class GuestScene implements Scene, Disposable {
  readonly client: FakeClient;
  readonly name: string;
  readonly path: string;
  readonly registers: DeviceRegisters;
  readonly neighbour: Neighbour;
  readonly host: Scene["host"];
  readonly service: ServiceSockets;
  readonly #machine: AttackedMachine;
  readonly #target: AttackedFunction;
  readonly #before: OwnerView;

  private constructor(
    machine: AttackedMachine,
    target: AttackedFunction,
    client: FakeClient,
    before: OwnerView & MachineView,
  ) {
    const { place, neighbour } = machine;
    this.client = client;
    this.name = target.name;
    this.path = `${place}/${target.name}.sock`;
    this.registers = target.registers;
    this.neighbour = neighbour;
    this.host = { address: before.hostAddress, content: HOST_CONTENT };
    this.service = {
      users: `${place}/users.sock`,
      control: `${place}/control.sock`,
      metrics: `${place}/metrics.sock`,
      foreign: { name: neighbour.name, path: neighbour.path },
      queue: QUEUE,
    };
    this.#machine = machine;
    this.#target = target;
    this.#before = before;
  }

  static async open(machine: AttackedMachine, target: AttackedFunction): Promise<GuestScene> {
    const path = `${machine.place}/${target.name}.sock`;
    // An attack that failed may have left it to the service to try again.
    const until = performance.now() + PATIENCE_MS;
    while (["failed", "starting"].includes((await machine.view(target)).state)) {
      assert.ok(performance.now() < until, `${target.name} is not served any more`);
    }
    const client = await FakeClient.open(path, { max_msg_fds: 16 }, PATIENCE_MS);
    machine.takeLog();
    return new GuestScene(machine, target, client, await machine.view(target));
  }

  connect(path: string = this.path): FakeClient {
    return FakeClient.connect(path, PATIENCE_MS);
  }

  async view(): Promise<OwnerView> {
    return await this.#machine.view(this.#target);
  }

  async hits(rule: string): Promise<number> {
    return ((await this.view()).hits[rule] ?? 0) - (this.#before.hits[rule] ?? 0);
  }

  async takeAway(): Promise<void> {
    await this.#machine.owner.ask({ ask: "kick", name: this.name, address: this.#target.address });
  }

  async next(client: FakeClient = this.client): Promise<FakeClient> {
    client[Symbol.dispose]();
    return await FakeClient.open(this.path, { max_msg_fds: 16 }, PATIENCE_MS);
  }

  /**
   * What must hold whatever was done: the neighbour works and nothing has interrupted it, the host's memory is as it was, and the
   * kernel has no complaint but of the attacked function's own accesses.
   */
  async check(): Promise<void> {
    this.client[Symbol.dispose]();
    assert.equal(await this.neighbour.strayInterrupts(), 0);
    const { hostIntact } = await this.#machine.view(this.#target);
    assert.ok(hostIntact, "the host's memory was changed");
    // With or without the domain, by the kernel's version.
    const own = `${this.#target.address.slice(5)}]`;
    const complaints = this.#machine
      .takeLog()
      .filter((line) => /DMAR.*fault|BUG|Oops|WARNING|Call Trace|general protection|hung task/i.test(line));
    assert.deepEqual(
      complaints.filter((line) => !line.includes(own) && !FAULTS_COME.test(line)),
      [],
    );
  }

  [Symbol.dispose](): void {
    this.client[Symbol.dispose]();
  }
}
