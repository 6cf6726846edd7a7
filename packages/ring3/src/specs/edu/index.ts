export { eduRegisters } from "./register-map.ts";
export { EDU_ADDRESS_BITS, EDU_MAGIC, Edu, EduBuffer, EduDma, EduIds, EduInterrupt, EduStatus } from "./registers.ts";
