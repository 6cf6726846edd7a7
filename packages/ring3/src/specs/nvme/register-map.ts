// The registers of an NVMe controller by place, for traces and fault plans. NVMe base 2.0, section 3.1.3; the doorbells:
// NVMe over PCIe transport 1.0, section 3.1.2.
import type { Field } from "../../binary/field.ts";
import type { DeviceRegisters, PlacedRegister } from "../../binary/register-map.ts";
import {
  Aqa,
  CapHigh,
  CapLow,
  Cc,
  Cmbloc,
  Cmbsz,
  Crto,
  Csts,
  completionDoorbell,
  Nvme,
  submissionDoorbell,
  Vs,
} from "./registers.ts";

const fieldsOf: Readonly<Record<string, Readonly<Record<string, Field>>>> = {
  CAP_LOW: CapLow,
  CAP_HIGH: CapHigh,
  VS: Vs,
  CC: Cc,
  CSTS: Csts,
  AQA: Aqa,
  CMBLOC: Cmbloc,
  CMBSZ: Cmbsz,
  CRTO: Crto,
};

/**
 * The registers in BAR0. Doorbells are called `SQ0TDBL` (tail of submission queue 0) and `CQ0HDBL` (head of completion queue
 * 0); where they lie depends on CAP.DSTRD, and their number is `queues`.
 */
export function nvmeRegisters({
  stride = 0,
  queues = 65,
}: {
  readonly stride?: number;
  readonly queues?: number;
} = {}): DeviceRegisters {
  const registers: PlacedRegister[] = [];
  for (const [name, offset] of Object.entries(Nvme)) {
    const fields = fieldsOf[name];
    if (name !== "DOORBELLS") registers.push({ name, offset, width: 4, ...(fields === undefined ? {} : { fields }) });
  }
  for (let queue = 0; queue < queues; queue++) {
    registers.push({ name: `SQ${queue}TDBL`, offset: submissionDoorbell(queue, stride), width: 4 });
    registers.push({ name: `CQ${queue}HDBL`, offset: completionDoorbell(queue, stride), width: 4 });
  }
  return { name: "nvme", bars: { 0: registers } };
}
