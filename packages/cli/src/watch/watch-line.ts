// One event of `ring3 watch` as a line for people: time, address, what happened.
import { errorName, linkText, packetText } from "./event-words.ts";
import type { WatchEvent } from "ring3/host";
import type { Style } from "../text.ts";

/** What an open function itself told, by the names of `FunctionEventMap`. */
export interface FunctionTold {
  readonly type: "function-event";
  readonly address: string;
  readonly event: string;
  readonly facts: Readonly<Record<string, unknown>>;
}

export function watchLine(time: Date, event: WatchEvent | FunctionTold, style: Style): string {
  const clock = style.dim(time.toTimeString().slice(0, 8));
  const address = "address" in event ? event.address : undefined;
  const place = address === undefined ? "" : `${style.bold(address)} `;
  return `${clock} ${place}${text(event, style)}`;
}

function text(event: WatchEvent | FunctionTold, style: Style): string {
  switch (event.type) {
    case "added":
      return style.green("added");
    case "removed":
      return style.red("removed");
    case "bound":
      return `bound to ${event.driver ?? "a driver"}`;
    case "unbound":
      return "unbound from its driver";
    case "error":
      return style.red(`the kernel's error handling: ${event.phase.toLowerCase().replaceAll("_", " ")}`);
    case "node-added":
    case "node-removed":
      return `${event.node} ${event.type === "node-added" ? "appeared" : "is gone"}`;
    case "overflow":
      return style.yellow("the kernel dropped events: some were missed");
    case "power":
      return `power ${event.before} -> ${event.state}`;
    case "link":
      return `link ${linkText(event.before)} -> ${linkText(event.link)}`;
    case "function-event": {
      const facts = Object.entries(event.facts).map(([name, value]) => `${name} ${String(value)}`);
      return [event.event.replaceAll("-", " "), facts.join(", ")].filter((part) => part !== "").join(": ");
    }
    default: {
      const { severity, errors, first, packet } = event;
      const counted = Object.entries(errors).map(([name, count]) => errorName(name) + (count > 1 ? ` x${count}` : ""));
      const words =
        severity === undefined ? "error" : severity === "correctable" ? "corrected error" : `${severity} error`;
      const painted = severity === "correctable" ? style.yellow(words) : style.red(words);
      const parts = [`${painted}${counted.length > 0 ? `: ${counted.join(", ")}` : ""}`];
      if (first !== undefined && counted.length > 1) parts.push(`first ${errorName(first)}`);
      if (packet !== undefined) parts.push(packetText(packet));
      return parts.join("; ");
    }
  }
}
