// Every guest suite on Debian's kernel: VFIO through groups.
import { runGuestSuites } from "./run.ts";

runGuestSuites("debian");
