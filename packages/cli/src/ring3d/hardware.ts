// What ring3d does to the machine: it takes functions from their drivers and gives them back. What it has taken is noted
// before it is taken and crossed out once it is back, so that after any end of the service the next one, or systemd's
// ExecStopPost, knows what is still to be given back.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { open, type PciFunction, type ResetMethod, Ring3Error } from "ring3";
import { bind, type Host, isVfioDriver, readFunction, unbind } from "ring3/host";
import { listDescriptors, openVfioDescriptors, VfioFunction } from "ring3/vfio";
import type { Hardware } from "./function-needs.ts";
import type { Lease } from "./service-interface.ts";
import { Turns } from "./turns.ts";

/** The functions of this machine, for the service whose notes are in `directory`. */
export class MachineHardware implements Hardware {
  readonly #host: Host;
  readonly #directory: string;
  /** One change of bindings at a time, as the machine's lock has it. */
  readonly #turns: Turns = new Turns();

  constructor(host: Host, directory: string) {
    this.#host = host;
    this.#directory = directory;
  }

  /** Addresses that this service has taken, or one before it that was killed. */
  taken(): readonly string[] {
    try {
      return readdirSync(this.#directory).filter((name) => /^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/.test(name));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw error;
    }
  }

  take(address: string): Promise<boolean> {
    return this.#turns.take(() => this.#take(address));
  }

  giveBack(address: string): Promise<boolean> {
    return this.#turns.take(() => this.#giveBack(address));
  }

  async open(address: string, options: { readonly removalGraceMs: number }): Promise<PciFunction> {
    return await open(address, options);
  }

  sharedBus(fn: PciFunction): readonly string[] | undefined {
    return fn instanceof VfioFunction ? fn.hotResetScope()?.affected.map(({ address }) => address) : undefined;
  }

  async resetBus(fn: PciFunction, neighbours: readonly PciFunction[]): Promise<ResetMethod> {
    const [first, ...others] = [fn, ...neighbours].filter((one) => one instanceof VfioFunction);
    if (first !== fn || others.length < neighbours.length) {
      throw new Ring3Error("NOT_SUPPORTED", "only functions of the kernel's VFIO have a bus that can be reset");
    }
    return await first.hotReset(others);
  }

  lend(address: string): Pick<Lease, "backend" | "descriptors"> {
    const descriptors = openVfioDescriptors(address);
    return { backend: descriptors.backend, descriptors: listDescriptors(descriptors) };
  }

  async #take(address: string): Promise<boolean> {
    const { driver } = readFunction(address, this.#host.paths);
    // Somebody bound it already, and will give it back: an administrator, or a service before this one that was killed.
    if (driver !== undefined && isVfioDriver(driver)) return false;
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    writeFileSync(this.#note(address), "");
    await bind({ addresses: [address] }, this.#host);
    return true;
  }

  async #giveBack(address: string): Promise<boolean> {
    if (!this.taken().includes(address)) return false;
    try {
      await unbind({ addresses: [address] }, this.#host);
    } catch (error) {
      // The service was killed before it took the function.
      if ((error as { code?: unknown }).code !== "NOT_BOUND") throw error;
    }
    rmSync(this.#note(address), { force: true });
    return true;
  }

  #note(address: string): string {
    return join(this.#directory, address);
  }
}
