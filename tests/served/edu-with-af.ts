// For `ring3 serve`: an edu that is reset by its advanced features, a capability that no device of QEMU's has.
import { EduDevice } from "../../packages/ring3/src/devices/edu/index.ts";
import { af } from "../../packages/ring3/src/virtual/index.ts";

export const device = (): EduDevice => new EduDevice({ name: "edu-with-af", capabilities: [af()] });
