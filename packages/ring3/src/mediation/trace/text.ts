// One event as a line that people read.
import { isAccess, type TraceEvent } from "./event.ts";

/** `12.345 ms  read  bar0 CSTS = 0x00000001 {RDY 1}`, without the time where `withTime` is false. */
export function eventText(event: TraceEvent, withTime = true): string {
  const time = withTime ? `${(event.t / 1e6).toFixed(3).padStart(12)} ms  ` : "";
  const named = event.type === "open" && event.user !== undefined;
  const user = named ? `  (${event.user})` : "";
  return `${time}${bodyText(event)}${user}`;
}

function bodyText(event: TraceEvent): string {
  if (isAccess(event)) {
    const { decoded, op, error } = event;
    const area = event.bar === undefined ? event.type : `bar${event.bar}`;
    const place = decoded?.register ?? `+${hex(event.offset)}`;
    const fields = Object.entries(decoded?.fields ?? {}).map(([name, value]) => `${name} ${hex(value)}`);
    const shown = fields.length === 0 ? "" : ` {${fields.join(", ")}}`;
    const failed = error === undefined ? "" : ` failed: ${error}`;
    return `${op.padEnd(5)} ${area} ${place}${valueText(event)}${shown}${failed}`;
  }
  switch (event.type) {
    case "open": {
      const { address, backend, vendorId, deviceId } = event.identity;
      return `open  ${address} (${digits(vendorId, 4)}:${digits(deviceId, 4)}) through ${backend}, seen from the ${event.side}`;
    }
    case "interrupts":
      if (event.count === 0) return `interrupts off: ${event.kind}`;
      return `interrupts on: ${event.kind} ${event.first} to ${event.first + event.count - 1}`;
    case "interrupt":
      return `interrupt ${event.kind} ${event.vector}${event.count === 1 ? "" : `, ${event.count} signals`}`;
    case "map":
      return `map   ${event.map}: ${event.size} bytes at ${hex(event.iova)}, ${event.permission}`;
    case "unmap":
      return `unmap ${event.map}: ${event.size} bytes at ${hex(event.iova)}`;
    case "memory":
      return `memory ${event.map}+${hex(event.offset)}: the ${event.by} wrote ${runText(event.bytes)}`;
    case "reset":
      return `reset ${event.method ?? ""}${event.error === undefined ? "" : `failed: ${event.error}`}`;
    case "power":
      return `power ${event.state}${event.error === undefined ? "" : ` failed: ${event.error}`}`;
    case "event": {
      const details = Object.entries(event.detail).map(([name, value]) => `${name} ${value}`);
      return `event ${event.name}${details.length === 0 ? "" : `: ${details.join(", ")}`}`;
    }
    case "fault":
      return `fault ${event.fault}: ${event.description}`;
    default:
      return `close ${event.reason}`;
  }
}

function valueText(event: {
  readonly value?: number | bigint | undefined;
  readonly bytes?: Uint8Array | undefined;
  readonly width: number;
}): string {
  if (event.bytes !== undefined) return ` = ${runText(event.bytes)}`;
  return event.value === undefined ? "" : ` = 0x${digits(event.value, event.width * 2)}`;
}

function runText(bytes: Uint8Array): string {
  const shown = Array.from(bytes.subarray(0, 16), (byte) => digits(byte, 2)).join(" ");
  return bytes.length <= 16 ? shown : `${shown} ... (${bytes.length} bytes)`;
}

function digits(value: number | bigint, count: number): string {
  return value.toString(16).padStart(count, "0");
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
