// Shell scripts that run as root in a guest and must succeed, and what several of them have in common.
import type { Guest } from "../guest/guest.ts";

/** What every script may call. */
const PRELUDE = `
set -e
until_there() { i=0; until [ -e "$1" ]; do i=$((i + 1)); [ $i -lt 300 ] || { echo "no $1" >&2; exit 1; }; sleep 0.1; done; }
driver_of() { [ ! -e "/sys/bus/pci/devices/$1/driver" ] || basename "$(readlink "/sys/bus/pci/devices/$1/driver")"; }
unbind() { [ -z "$(driver_of "$1")" ] || echo "$1" > "/sys/bus/pci/devices/$1/driver/unbind"; }
bind() {
  unbind "$1"
  echo "$2" > "/sys/bus/pci/devices/$1/driver_override"
  echo "$1" > /sys/bus/pci/drivers_probe
  [ "$(driver_of "$1")" = "$2" ] || { echo "$2 does not take $1" >&2; exit 1; }
}
`;

/** Runs a script as root and returns its output. Throws, with everything that there is to say, where it fails. */
export async function root(guest: Guest, script: string, timeoutMs = 60_000): Promise<string> {
  const { code, signal, stdout, stderr, timedOut } = await guest.run(["sh", "-c", PRELUDE + script], {
    uid: 0,
    timeoutMs,
  });
  if (code === 0) return stdout;
  const how = timedOut ? `took longer than ${timeoutMs} ms` : `ended with ${signal ?? code}`;
  const kernel = await guest.run(["sh", "-c", "dmesg | tail -n 40"], { uid: 0 });
  throw new Error(`in the guest: ${script}\n${how}:\n${stdout}\n${stderr}\n${kernel.stdout}`);
}

/** Where the function behind the root port number `port` of an empty machine is. */
export function addressBehind(port: number): string {
  return `0000:0${port}:00.0`;
}

/**
 * Interrupts of a kind that were delivered so far to handlers whose name matches: `PCI-MSIX`, `PCI-MSI` or `IO-APIC`, as the
 * kernel names its interrupt controllers.
 */
export function interruptsIn(text: string, kind: string, handler: RegExp): number {
  let sum = 0;
  for (const line of text.split("\n")) {
    const [, counts = "", chip = "", name = ""] = /^ *\d+:((?: +\d+)+) +(\S+) +(.*)$/.exec(line) ?? [];
    if (!handler.test(name) || !new RegExp(`^${kind}(-|$)`).test(chip)) continue;
    for (const count of counts.trim().split(/ +/)) sum += Number(count);
  }
  return sum;
}
