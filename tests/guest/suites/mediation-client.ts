// A process that reads from the served disk without end, until it is killed.
import { NvmeDriver } from "../../../packages/ring3/src/drivers/nvme/index.ts";
import { connect } from "../../../packages/ring3/src/vfio-user/index.ts";

await using fn = await connect(process.argv[2] ?? "");
await using nvme = await NvmeDriver.start(fn, { completion: "interrupt" });
for (let done = 0; ; done++) {
  await Promise.all(Array.from({ length: 8 }, (_, index) => nvme.namespace(1).read(index * 8, 8)));
  if (done === 3) console.log("running");
}
