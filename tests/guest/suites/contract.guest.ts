// timeout: 900
// The PciFunction contract on the kernel's VFIO: edu (MSI and INTx, DMA), nvme (MSI-X, FLR, power states) and pci-testdev
// (I/O and 64-bit BARs, no interrupt), over every interface that the guest's kernel has.
import { backends, eduParts, guestFunction, nvmeParts, testdevParts } from "../../contract/guest-functions.ts";
import { pciFunctionContract } from "../../contract/pci-function.ts";
import { FUNCTIONS } from "../machine.ts";

for (const backend of backends) {
  pciFunctionContract(`edu over ${backend}`, guestFunction(FUNCTIONS.edu.address, backend, eduParts));
  pciFunctionContract(`nvme over ${backend}`, guestFunction(FUNCTIONS.nvme.address, backend, nvmeParts));
  pciFunctionContract(`pci-testdev over ${backend}`, guestFunction(FUNCTIONS.testdev.address, backend, testdevParts));
}
