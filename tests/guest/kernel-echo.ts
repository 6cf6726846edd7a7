// A thread that echoes datagrams over a socket of the kernel; it says on which port.
import { createSocket } from "node:dgram";
import { parentPort, workerData } from "node:worker_threads";

const { address } = workerData as { readonly address: string };
// As much as the kernel lets us have: a busy machine may give us no turn for long.
const socket = createSocket({ type: "udp4", recvBufferSize: 8 << 20 });
socket.on("message", (data, sender) => socket.send(data, sender.port, sender.address));
socket.bind(0, address, () => parentPort?.postMessage(socket.address().port));
