// The registers of QEMU's educational device by place, for traces and fault plans: docs/specs/edu.rst of QEMU.
import type { DeviceRegisters, PlacedRegister } from "../../binary/register-map.ts";
import { Edu, EduDma, EduStatus } from "./registers.ts";

const wide = { width: 8 } as const;
const word = { width: 4 } as const;
const registers: readonly PlacedRegister[] = [
  { name: "IDENTIFICATION", offset: Edu.IDENTIFICATION, ...word },
  { name: "LIVENESS", offset: Edu.LIVENESS, ...word },
  { name: "FACTORIAL", offset: Edu.FACTORIAL, ...word },
  { name: "STATUS", offset: Edu.STATUS, ...word, fields: EduStatus },
  { name: "INTERRUPT_STATUS", offset: Edu.INTERRUPT_STATUS, ...word },
  { name: "INTERRUPT_RAISE", offset: Edu.INTERRUPT_RAISE, ...word },
  { name: "INTERRUPT_ACKNOWLEDGE", offset: Edu.INTERRUPT_ACKNOWLEDGE, ...word },
  { name: "DMA_SOURCE", offset: Edu.DMA_SOURCE, ...wide },
  { name: "DMA_DESTINATION", offset: Edu.DMA_DESTINATION, ...wide },
  { name: "DMA_COUNT", offset: Edu.DMA_COUNT, ...wide },
  { name: "DMA_COMMAND", offset: Edu.DMA_COMMAND, ...wide, fields: EduDma },
];

/** The registers in BAR0. */
export const eduRegisters: DeviceRegisters = { name: "edu", bars: { 0: registers } };
