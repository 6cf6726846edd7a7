// Text of PCI-X, which has one layout for functions and another for bridges.
import { PciX, PciXBridge } from "../capabilities/pci-x.ts";
import { layout } from "./layout.ts";
import type { Printer } from "./printer.ts";

const OUTSTANDING = ["1", "2", "3", "4", "8", "12", "16", "32"];
const CLOCKS = ["conv", "66MHz", "100MHz", "133MHz", "?4", "?5", "?6", "?7"];
const formats = {
  outstanding: OUTSTANDING,
  bytes: (value: number) => 1 << (9 + value),
  cumulative: (value: number) => 1 << (3 + value),
  complexity: ["simple", "bridge"],
  clock: CLOCKS,
};

const command = layout(
  PciX.COMMAND,
  "\t\tCommand: DPERE{DATA_PARITY_ERROR_RECOVERY_ENABLE} ERO{ENABLE_RELAXED_ORDERING} " +
    "RBC={MAXIMUM_MEMORY_READ_BYTE_COUNT:bytes} OST={MAXIMUM_OUTSTANDING_SPLIT_TRANSACTIONS:outstanding}\n",
  formats,
);
const status = layout(
  PciX.STATUS,
  "\t\tStatus: Dev={BUS_NUMBER:02x}:{DEVICE_NUMBER:02x}.{FUNCTION_NUMBER} 64bit{DEVICE_64_BIT} " +
    "133MHz{CAPABLE_133_MHZ} SCD{SPLIT_COMPLETION_DISCARDED} USC{UNEXPECTED_SPLIT_COMPLETION} " +
    "DC={DEVICE_COMPLEXITY:complexity} DMMRBC={DESIGNED_MAXIMUM_MEMORY_READ_BYTE_COUNT:bytes} " +
    "DMOST={DESIGNED_MAXIMUM_OUTSTANDING_SPLIT_TRANSACTIONS:outstanding} " +
    "DMCRS={DESIGNED_MAXIMUM_CUMULATIVE_READ_SIZE:cumulative} RSCEM{RECEIVED_SPLIT_COMPLETION_ERROR_MESSAGE} " +
    "266MHz{CAPABLE_266_MHZ} 533MHz{CAPABLE_533_MHZ}\n",
  formats,
);
const secondaryStatus = layout(
  PciXBridge.SECONDARY_STATUS,
  "\t\tSecondary Status: 64bit{DEVICE_64_BIT} 133MHz{CAPABLE_133_MHZ} SCD{SPLIT_COMPLETION_DISCARDED} " +
    "USC{UNEXPECTED_SPLIT_COMPLETION} SCO{SPLIT_COMPLETION_OVERRUN} SRD{SPLIT_REQUEST_DELAYED} " +
    "Freq={SECONDARY_CLOCK_FREQUENCY:clock}\n",
  formats,
);
const bridgeStatus = layout(
  PciXBridge.STATUS,
  "\t\tStatus: Dev={BUS_NUMBER:02x}:{DEVICE_NUMBER:02x}.{FUNCTION_NUMBER} 64bit{DEVICE_64_BIT} " +
    "133MHz{CAPABLE_133_MHZ} SCD{SPLIT_COMPLETION_DISCARDED} USC{UNEXPECTED_SPLIT_COMPLETION} " +
    "SCO{SPLIT_COMPLETION_OVERRUN} SRD{SPLIT_REQUEST_DELAYED}\n",
);
const TRANSACTIONS = "Capacity={SPLIT_TRANSACTION_CAPACITY} CommitmentLimit={SPLIT_TRANSACTION_COMMITMENT_LIMIT}\n";
const upstream = layout(PciXBridge.UPSTREAM_SPLIT_TRANSACTION_CONTROL, `\t\tUpstream: ${TRANSACTIONS}`);
const downstream = layout(PciXBridge.DOWNSTREAM_SPLIT_TRANSACTION_CONTROL, `\t\tDownstream: ${TRANSACTIONS}`);

export function showPciX(printer: Printer, at: number): void {
  const type = printer.shown.headerLayout;
  if (type === 0) {
    printer.print("PCI-X non-bridge device\n");
    if (printer.detailed && printer.fetch(at, PciX.STATUS)) printer.show(at, command, status);
  } else if (type === 1) {
    printer.print("PCI-X bridge device\n");
    const { STATUS, DOWNSTREAM_SPLIT_TRANSACTION_CONTROL } = PciXBridge;
    // Twelve bytes from the status on.
    if (printer.detailed && printer.fetch(at, STATUS, DOWNSTREAM_SPLIT_TRANSACTION_CONTROL)) {
      printer.show(at, secondaryStatus, bridgeStatus, upstream, downstream);
    }
  }
}
