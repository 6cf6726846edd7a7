// A machine that only has firmware: QEMU runs SeaBIOS, which finds a served disk by itself and boots from it. What the boot
// code says comes over the first serial port.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { guestLane, lock, type Progress } from "../guest/cache.ts";
import { listenOnce } from "../guest/guest.ts";
import { GROUPS, packageRoot } from "../guest/packages.ts";
import { Qmp } from "../guest/qmp.ts";
import { debianTool } from "../guest/tools.ts";

/** The root port to plug the disk into. */
export const PORT = "rp1";
const MEMORY_MEGABYTES = 256;
const TEXT_TIMEOUT_MS = 60_000;

/** A running machine. Disposal ends it. */
export class Firmware implements AsyncDisposable {
  readonly #qemu: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #qmp: Qmp;
  readonly #cleanUp: AsyncDisposableStack;
  #output = "";
  #errors = "";

  private constructor(qemu: ChildProcess, qmp: Qmp, cleanUp: AsyncDisposableStack) {
    this.#qemu = qemu;
    this.#qmp = qmp;
    this.#cleanUp = cleanUp;
    this.#exited = once(qemu, "exit");
    qemu.stdout?.setEncoding("utf8").on("data", (text: string) => (this.#output += text));
    qemu.stderr?.setEncoding("utf8").on("data", (text: string) => (this.#errors += text));
  }

  /** Starts a machine with `devices` (QEMU's arguments, a kernel's as well); one machine of any kind runs at a time in a lane. */
  static async start(devices: readonly string[], progress: Progress): Promise<Firmware> {
    const root = await packageRoot(GROUPS.qemu, progress);
    await using cleanUp = new AsyncDisposableStack();
    cleanUp.use(await lock(guestLane(), () => progress("waiting for another guest to end")));
    const directory = mkdtempSync(join(tmpdir(), "ring3-firmware-"));
    cleanUp.defer(() => rmSync(directory, { recursive: true, force: true }));
    using monitor = listenOnce(join(directory, "qmp"));
    await monitor.listening;
    const { program, args } = debianTool(root, "qemu-system-x86_64");
    const data = ["qemu", "seabios"].flatMap((name) => ["-L", join(root, "usr/share", name)]);
    const machine = [
      ...["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-m", `${MEMORY_MEGABYTES}M`],
      ...["-object", `memory-backend-memfd,id=ram,size=${MEMORY_MEGABYTES}M,share=on`],
      ...["-machine", "q35,memory-backend=ram", "-accel", "tcg"],
      ...["-chardev", `socket,id=qmp,path=${join(directory, "qmp")}`, "-mon", "chardev=qmp,mode=control"],
      ...["-device", `pcie-root-port,id=${PORT},chassis=1,slot=1`],
    ];
    // The kernel ends QEMU when this process dies without a chance to.
    const qemu = spawn("setpriv", ["--pdeathsig", "KILL", "--", program, ...args, ...data, ...machine, ...devices], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    const ended = once(qemu, "exit").then(([code]) => Promise.reject(new Error(`QEMU ended with ${code}`)));
    ended.catch(() => undefined);
    const qmp = new Qmp(await Promise.race([monitor.connection, ended]), () => undefined);
    const firmware = new Firmware(qemu, qmp, cleanUp.move());
    await qmp.execute("qmp_capabilities");
    return firmware;
  }

  /** Everything that came over the serial port. */
  get output(): string {
    return this.#output;
  }

  /** Resolves when `text` has come `times` times. */
  async says(text: string, times = 1, timeoutMs: number = TEXT_TIMEOUT_MS): Promise<void> {
    const late = AbortSignal.timeout(timeoutMs);
    try {
      while (this.#output.split(text).length <= times) {
        if (this.#qemu.exitCode !== null || this.#qemu.signalCode !== null) throw new Error("QEMU has ended");
        await once(this.#qemu.stdout as NodeJS.ReadableStream, "data", { signal: late });
      }
    } catch (error) {
      throw new Error(`the machine never said "${text}" ${times} times:\n${this.#output}\n${this.#errors}`, {
        cause: error,
      });
    }
  }

  /** The reset button. */
  async reset(): Promise<void> {
    await this.#qmp.execute("system_reset");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#qemu.kill("SIGKILL");
    if (this.#qemu.exitCode === null && this.#qemu.signalCode === null) await this.#exited;
    await this.#cleanUp.disposeAsync();
  }
}
