// Every guest suite on the small kernel with IOMMUFD and VFIO device nodes; skipped where nobody built it.
import { runGuestSuites } from "./run.ts";

runGuestSuites("iommufd");
