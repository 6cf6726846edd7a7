// What crosses between driver and device, as a picture with a line a message and its answer: time runs down, the driver is
// on the left. The same message again and again is one line with its count.
import type { Message } from "../../packages/ring3/src/vfio-user/connection.ts";
import { describeMessage, isReply, type MessageText } from "./message-text.ts";
import type { Side } from "./wire-tap.ts";

const WIDTH = 84;

/** Draws messages as they come; {@link settle} first, before anything else is printed. */
export class Picture {
  readonly #print: (line: string) => void;
  /** Commands that wait for their answer, by sender and id. */
  readonly #open = new Map<string, MessageText>();
  readonly #counts = new Map<string, number>();
  #lastKind = "";
  #repeated = 0;
  #drawing = true;

  constructor(print: (line: string) => void) {
    this.#print = print;
  }

  /** The heads of the two life lines. */
  head(driver: string, device: string): void {
    this.#print(`${driver}${" ".repeat(Math.max(1, WIDTH - driver.length - device.length))}${device}`);
  }

  /** One message that crossed. */
  show(from: Side, message: Message): void {
    if (isReply(message)) {
      const key = `${from === "driver" ? "device" : "driver"}-${message.id}`;
      const request = this.#open.get(key);
      this.#open.delete(key);
      if (request === undefined) return;
      const { text } = describeMessage(message);
      this.#draw(from === "driver" ? "device" : "driver", request, text);
      return;
    }
    const text = describeMessage(message);
    this.#counts.set(text.name, (this.#counts.get(text.name) ?? 0) + 1);
    if (text.posted) this.#draw(from, text, undefined);
    else this.#open.set(`${from}-${message.id}`, text);
  }

  /** Messages by name since the last call, replies left out. */
  takeCounts(): ReadonlyMap<string, number> {
    const counts = new Map(this.#counts);
    this.#counts.clear();
    return counts;
  }

  /** Whether messages are drawn, or counted only. */
  set drawing(on: boolean) {
    this.settle();
    this.#drawing = on;
  }

  /** Draws what is still held back. */
  settle(): void {
    if (this.#repeated > 0) this.#arrow("driver", `... and ${this.#repeated} more of these`, undefined);
    this.#repeated = 0;
    this.#lastKind = "";
  }

  #draw(from: Side, { name, text }: MessageText, answer: string | undefined): void {
    if (!this.#drawing) return;
    if (name === this.#lastKind && REPETITIVE.test(name)) {
      this.#repeated++;
      return;
    }
    this.settle();
    this.#lastKind = name;
    this.#arrow(from, text, answer);
  }

  /** `|-- what is asked ---------------> the answer --|`, or the other way round where the device asks. */
  #arrow(from: Side, text: string, answer: string | undefined): void {
    const said = shorten(text, answer === undefined || answer === "" ? WIDTH - 7 : WIDTH / 2 + 12);
    const back = answer === undefined || answer === "" ? "" : ` ${shorten(answer, WIDTH - said.length - 13)} ..`;
    const shaft = "-".repeat(Math.max(1, WIDTH - said.length - back.length - 7));
    this.#print(from === "driver" ? `|-- ${said} ${shaft}>${back}|` : `|${back}<${shaft} ${said} --|`);
  }
}

function shorten(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, Math.max(0, width - 3))}...`;
}

/** Of which a driver sends many in a row that say nothing new. */
const REPETITIVE =
  /^(DEVICE_GET_REGION_INFO|DEVICE_GET_IRQ_INFO|DMA_UNMAP|REGION_(READ|WRITE) of config space|REGION_READ of CSTS|.* doorbells of queue \d+)$/;
