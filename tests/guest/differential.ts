// The long differential campaign of the rule set `linux` against the kernel, by hand: node tests/guest/differential.ts
// [accesses per function] [seed] [function ...]. Each function of the machine in turn, in one boot of the small kernel.
import { bootGuest } from "./guest.ts";
import { FUNCTIONS, VIRTUAL_FUNCTIONS } from "./machine.ts";

const [accesses = "15000", seed = "1", ...only] = process.argv.slice(2);
const script = "/ring3/tests/guest/suites/mediation-differential.js";

await using guest = await bootGuest({ kernel: "iommufd", progress: console.error });
for (const name of ["nvme", "edu", "testdev", "virtioBlk", "e1000e", "xhci", "igbVf0", "igb"] as const) {
  if (only.length > 0 && !only.includes(name)) continue;
  const { address } = FUNCTIONS[name];
  const prepare =
    name === "igb"
      ? `echo 0 > /sys/bus/pci/devices/${VIRTUAL_FUNCTIONS.parent}/sriov_numvfs; echo vfio-pci > /sys/bus/pci/devices/${address}/driver_override; echo ${address} > /sys/bus/pci/devices/${address}/driver/unbind; echo ${address} > /sys/bus/pci/drivers_probe;`
      : "";
  const command = `${prepare} node ${script} ${accesses} ${seed} ${address}`;
  const { code, stdout, stderr } = await guest.run(["sh", "-c", command], { uid: 0, timeoutMs: 400_000 });
  console.log(`${name}: ${code === 0 ? stdout.trim() : `ended with ${code}: ${stderr}`}`);
}
