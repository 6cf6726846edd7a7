// A machine of QEMU that never runs: its buses are reached over the qtest protocol (docs/devel/testing/qtest.rst), so that
// neither firmware nor a kernel has to boot. Commands go out as they come and answers return in their order.
import { type ChildProcess, spawn } from "node:child_process";
import { debianTool } from "../guest/tools.ts";
import type { Machine } from "./machines.ts";

const ECAM = 0xb0000000;

export class QtestMachine implements AsyncDisposable {
  readonly #qemu: ChildProcess;
  readonly #waiting: { readonly resolve: (answer: string) => void; readonly reject: (error: Error) => void }[] = [];
  readonly #ended: Promise<void>;
  readonly #isMapped: boolean;
  #rest = "";
  #errors = "";
  #lost: Error | undefined;
  /** A machine that waits for commands outlives whoever gave them. */
  readonly #killAtExit = (): void => {
    this.#qemu.kill("SIGKILL");
  };

  constructor(qemuRoot: string, { chipset, properties = "", devices, args = [] }: Machine) {
    const { program, args: loader } = debianTool(qemuRoot, "qemu-system-x86_64");
    const share = ["qemu", "seabios", "ipxe/qemu"].flatMap((name) => ["-L", `${qemuRoot}/usr/share/${name}`]);
    const words = [
      ...[
        ...share,
        "-nodefaults",
        "-no-user-config",
        "-nographic",
        "-S",
        "-accel",
        "tcg",
        "-m",
        "128,maxmem=8G,slots=4",
        "-audiodev",
        "none,id=none",
      ],
      ...["-M", `${chipset}${properties}`, "-qtest", "stdio", "-qtest-log", "none", ...args],
      ...devices.flatMap((device) => ["-device", device]),
    ];
    this.#isMapped = chipset === "q35";
    this.#qemu = spawn(program, [...loader, ...words], { stdio: ["pipe", "pipe", "pipe"] });
    process.once("exit", this.#killAtExit);
    this.#qemu.stdout?.setEncoding("latin1").on("data", (text: string) => this.#receive(text));
    this.#qemu.stderr?.setEncoding("utf8").on("data", (text: string) => (this.#errors += text));
    this.#qemu.stdin?.on("error", () => undefined);
    this.#ended = new Promise((resolve) => {
      this.#qemu.once("close", () => {
        this.#lost = new Error(`QEMU ended: ${this.#errors}`);
        for (const { reject } of this.#waiting.splice(0)) reject(this.#lost);
        resolve();
      });
    });
  }

  /** Lets config space be reached; to be called once, before anything else. */
  async start(): Promise<void> {
    if (!this.#isMapped) return;
    // PCIEXBAR of the host bridge (Intel 3 Series datasheet, section 5.1.16): 256 MiB for 256 buses.
    await this.#port(0x60, 0x80000000);
    await this.#send(`outl 0xcfc ${ECAM + 1}`);
  }

  get configSize(): 256 | 4096 {
    return this.#isMapped ? 4096 : 256;
  }

  /** Bytes of config space, at a multiple of four. */
  async read(bus: number, slot: number, offset: number, size: number): Promise<Uint8Array> {
    const base = (bus << 20) | (slot << 12);
    if (this.#isMapped) {
      const answer = await this.#send(`read ${(ECAM + base + offset) >>> 0} ${size}`);
      return Uint8Array.from(Buffer.from(answer.slice("0x".length), "hex"));
    }
    const words = await Promise.all(
      Array.from({ length: size / 4 }, async (_, index) => {
        const selected = this.#port(offset + 4 * index, (0x80000000 | (base >>> 4)) >>> 0);
        const [, word] = await Promise.all([selected, this.#send("inl 0xcfc")]);
        return Number(word);
      }),
    );
    return new Uint8Array(Uint32Array.from(words).buffer);
  }

  async write(bus: number, slot: number, offset: number, width: 1 | 2 | 4, value: number): Promise<void> {
    const letter = { 1: "b", 2: "w", 4: "l" }[width];
    const base = (bus << 20) | (slot << 12);
    if (this.#isMapped) {
      await this.#send(`write${letter} ${(ECAM + base + offset) >>> 0} ${value}`);
      return;
    }
    const selected = this.#port(offset & ~3, (0x80000000 | (base >>> 4)) >>> 0);
    await Promise.all([selected, this.#send(`out${letter} ${0xcfc + (offset & 3)} ${value}`)]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#killAtExit();
    process.off("exit", this.#killAtExit);
    await this.#ended;
  }

  #port(offset: number, select: number): Promise<string> {
    return this.#send(`outl 0xcf8 ${select + offset}`);
  }

  #send(command: string): Promise<string> {
    return new Promise((resolve, reject) => {
      if (this.#lost !== undefined) return reject(this.#lost);
      this.#waiting.push({ resolve, reject });
      this.#qemu.stdin?.write(`${command}\n`);
    });
  }

  #receive(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      const one = this.#waiting.shift();
      if (line.startsWith("OK")) one?.resolve(line.slice("OK ".length));
      else one?.reject(new Error(`QEMU answers ${line}`));
    }
  }
}
