// A user that is lent a function, ends its connection to the service, and keeps the function open all the same. Words: the users'
// socket, the function's name.
import { ServiceUser } from "../../../packages/ring3/src/ring3d-user.ts";
import { descriptorsOf, openVfio } from "../../../packages/ring3/src/vfio/index.ts";

const [socket = "", name = ""] = process.argv.slice(2);
const user = new ServiceUser(socket);
const { address, backend, descriptors } = await user.open(name);
await openVfio(address, { descriptors: descriptorsOf(backend, descriptors) });
user[Symbol.dispose]();
console.log("kept");
setInterval(() => undefined, 60_000);
