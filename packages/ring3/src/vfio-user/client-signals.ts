// What a server says of its function besides the device's own interrupts: an error, or that it wants the function back.
// None of it keeps the process alive.
import { isRing3Error } from "../binary/error.ts";
import { EventFd } from "../linux/event-fd.ts";
import type { ServedDevice } from "./client-device.ts";
import { Irq } from "./messages.ts";

interface SignalHandlers {
  readonly onRequest: () => void;
  readonly onError: () => void;
}

/** Arms both where the server offers them; disposal disarms. */
export function armSignals(device: ServedDevice, handlers: SignalHandlers): Disposable {
  const stack = new DisposableStack();
  const { channel } = device;
  const arm = (index: number, handler: () => void): void => {
    const { count, eventfd } = device.irq(index);
    if (count === 0 || !eventfd) return;
    const eventFd = stack.use(new EventFd());
    try {
      device.setEventfds(index, 0, [eventFd.fd]);
    } catch (error) {
      // Libraries list these interrupts for devices that do not have them.
      if (isRing3Error(error, "SERVER_REFUSED")) return;
      throw error;
    }
    stack.defer(() => {
      // Another connection, or none, needs no disarming.
      if (device.channel === channel && channel.dead === undefined) device.disableIrqs(index);
    });
    eventFd.watch(() => handler(), { keepsAlive: false });
  };
  try {
    arm(Irq.REQUEST, handlers.onRequest);
    arm(Irq.ERROR, handlers.onError);
    return stack.move();
  } finally {
    stack.dispose();
  }
}
