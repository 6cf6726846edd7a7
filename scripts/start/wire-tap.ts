// Stands between a driver and a device, passes every message on with its descriptors, and tells what crosses. Both ends
// believe that they talk to each other: what they say is not changed.
import { UnixListener, UnixSocket, watch } from "../../packages/ring3/src/linux/index.ts";
import { Connection, type Message } from "../../packages/ring3/src/vfio-user/connection.ts";

export type Side = "driver" | "device";

/** Listens at `path` for a driver and connects each to the device at `target`. Disposal ends everything. */
export function tapWire(path: string, target: string, onMessage: (from: Side, message: Message) => void): Disposable {
  const stack = new DisposableStack();
  const listener = stack.use(UnixListener.listen(path));
  stack.use(
    watch(listener.fd, () => {
      const accepted = listener.accept();
      if (accepted === undefined) return;
      const driver = new Connection(accepted.fd, { maximumFds: 64 });
      const device = new Connection(UnixSocket.connect(target).fd, { maximumFds: 64 });
      const close = (): void => {
        driver[Symbol.dispose]();
        device[Symbol.dispose]();
      };
      stack.defer(close);
      forward(driver, device, (message) => onMessage("driver", message), close);
      forward(device, driver, (message) => onMessage("device", message), close);
    }),
  );
  return stack;
}

function forward(source: Connection, target: Connection, tell: (message: Message) => void, close: () => void): void {
  watch(source.channel.fd, () => {
    for (;;) {
      while (source.reader.next()) {
        const message = source.message();
        tell(message);
        pass(target, message);
        source.reader.consume();
      }
      const count = source.reader.fill();
      if (count > 0) continue;
      // Nothing there now; or the end, and then the other side hears of it too.
      if (count === 0 || count !== EAGAIN) close();
      return;
    }
  });
}

const EAGAIN = -11;

function pass({ channel }: Connection, { bytes, fds }: Message): void {
  channel.output.bytes.set(bytes);
  for (let at = 0; at < bytes.length; ) {
    const sent = at === 0 ? channel.sendWithFds(0, bytes.length, fds) : channel.send(at, bytes.length - at);
    if (sent === EAGAIN) channel.wait("writable", 1000);
    else if (sent < 0) break;
    else at += sent;
  }
  for (const fd of fds) fd.close();
}
