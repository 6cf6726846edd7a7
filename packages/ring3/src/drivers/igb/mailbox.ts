// The virtual function's side of the mailbox. Hard about it: reading V2PMAILBOX clears what it says, so everything read is kept;
// the other side may be reset, asleep or another driver, so every wait ends; and what it says is believed only as far as it
// answers what was asked.
import { Ring3Error } from "../../binary/error.ts";
import type { Registers } from "../../memory/registers.ts";
import type { PciFunction } from "../../pci/function.ts";
import { MAILBOX_WORDS, MailboxAnswer, V2pMailbox } from "../../specs/igb/mailbox.ts";
import { IgbVf } from "../../specs/igb/registers.ts";
import type { Clock } from "../clock.ts";
import { waitFor } from "../gigabit/wait-for.ts";

const { REQ, ACK, VFU, PFSTS, PFACK, RSTI, RSTD } = V2pMailbox;
const READ_CLEARS = PFSTS.mask | PFACK.mask | RSTD.mask;
const ANSWER_TIMEOUT_MS = 2000;
const ALL_ONES = 0xffff_ffff;

export class Mailbox {
  readonly #fn: PciFunction;
  readonly #registers: Registers;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  /** Bits that a read has cleared and nobody has used. */
  #seen = 0;
  #busy: Promise<unknown> = Promise.resolve();

  constructor(fn: PciFunction, registers: Registers, clock: Clock, timeoutMs: number = ANSWER_TIMEOUT_MS) {
    this.#fn = fn;
    this.#registers = registers;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  #read(): number {
    const value = this.#registers.read32(IgbVf.V2PMAILBOX);
    if (value === ALL_ONES) return 0;
    this.#seen |= value & READ_CLEARS;
    return value | this.#seen;
  }

  /** Uses up a bit that was seen. */
  #take(mask: number): boolean {
    const set = (this.#read() & mask) !== 0;
    this.#seen &= ~mask;
    return set;
  }

  /** Whether the physical function is being reset now (RSTI), or has been since the last look (RSTD). */
  state(): { readonly resetting: boolean; readonly wasReset: boolean } {
    const value = this.#read();
    return { resetting: RSTI.test(value), wasReset: this.#take(RSTD.mask) };
  }

  /** Waits until the physical function is there: after a reset nothing may be asked before. */
  async awaitParent(timeoutMs: number): Promise<void> {
    const limit = { what: "the physical function stays in reset; bring it up (ip link set ... up)", timeoutMs };
    await waitFor(this.#fn, this.#clock, limit, () => !this.state().resetting);
    this.#seen = 0;
  }

  /**
   * Sends a message and waits for its answer.
   * Rejects with `NET_REFUSED` where the physical function says no, `NET_MAILBOX` where it says nothing or something else.
   */
  async request(what: string, words: readonly number[]): Promise<void> {
    if (await this.ask(what, words)) return;
    const why = "its administrator may have set the address, the VLAN or the trust of this virtual function";
    throw new Ring3Error("NET_REFUSED", `${this.#address} asked to ${what}, and its physical function refused: ${why}`);
  }

  /** As `request`, with the answer's words, of which there are `words.length` or 3; `undefined` where it says no. */
  ask(what: string, words: readonly number[]): Promise<readonly number[] | undefined> {
    const result = this.#busy.then(() => this.#ask(what, words));
    this.#busy = result.catch(() => {});
    return result;
  }

  async #ask(what: string, words: readonly number[]): Promise<readonly number[] | undefined> {
    await this.#own(what);
    this.#seen &= ~(PFSTS.mask | PFACK.mask);
    words.forEach((word, i) => this.#registers.write32(IgbVf.VMBMEM + 4 * i, word >>> 0));
    // Gives the memory away with the request.
    this.#registers.write32(IgbVf.V2PMAILBOX, REQ.mask);
    await this.#await(what, PFACK.mask, "did not take it");
    const asked = (words[0] as number) & 0xffff;
    for (;;) {
      await this.#await(what, PFSTS.mask, "did not answer");
      const answer = await this.#receive(what, Math.max(3, words.length));
      const first = answer[0] as number;
      // It may have something else to say in between: that the link changed, or that it was reset.
      if ((first & 0xffff) !== asked) continue;
      if ((first & MailboxAnswer.NACK) !== 0) return undefined;
      if ((first & MailboxAnswer.ACK) === 0) throw this.#failed(what, "gave no answer that is one");
      return answer;
    }
  }

  /** A message that waits and answers nothing; `lost` where the physical function has forgotten this function. */
  async unsolicited(): Promise<"none" | "still-there" | "lost"> {
    const result = this.#busy.then(async () => {
      if (!this.#take(PFSTS.mask)) return "none" as const;
      const [word] = await this.#receive("hear it", 1);
      return ((word as number) & MailboxAnswer.CTS) !== 0 ? ("still-there" as const) : ("lost" as const);
    });
    this.#busy = result.catch(() => {});
    return await result;
  }

  async #receive(what: string, count: number): Promise<number[]> {
    await this.#own(what);
    const words = Array.from({ length: Math.min(count, MAILBOX_WORDS) }, (_, i) =>
      this.#registers.read32(IgbVf.VMBMEM + 4 * i),
    );
    this.#registers.write32(IgbVf.V2PMAILBOX, ACK.mask);
    return words;
  }

  /** Takes the memory: the bit stays only where the other side does not have it. */
  async #own(what: string): Promise<void> {
    const limit = { timeoutMs: this.#timeoutMs, what: () => this.#failed(what, "does not let go of the mailbox") };
    await waitFor(this.#fn, this.#clock, limit, () => {
      this.#registers.write32(IgbVf.V2PMAILBOX, VFU.mask);
      return VFU.test(this.#read());
    });
  }

  async #await(what: string, mask: number, problem: string): Promise<void> {
    const limit = { timeoutMs: this.#timeoutMs, what: () => this.#failed(what, problem) };
    await waitFor(this.#fn, this.#clock, limit, () => this.#take(mask));
  }

  #failed(what: string, problem: string): Ring3Error {
    const advice = "bring it up with the kernel's igb driver (ip link set ... up)";
    return new Ring3Error(
      "NET_MAILBOX",
      `${this.#address} asked to ${what}, and its physical function ${problem}; ${advice}`,
    );
  }

  get #address(): string {
    return this.#fn.identity.address;
  }
}

/** The words of a MAC address in a message. */
export function macWords(mac: Uint8Array): [number, number] {
  const [a, b, c, d, e, f] = mac as unknown as [number, number, number, number, number, number];
  return [(a | (b << 8) | (c << 16) | (d << 24)) >>> 0, e | (f << 8)];
}
