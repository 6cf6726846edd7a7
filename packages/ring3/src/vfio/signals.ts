// What happens to a function from outside: the kernel's error and request interrupts, the uevents that tell how an error
// went on, and the machine's sleep. None of it keeps the process alive.
import { isRing3Error } from "../binary/error.ts";
import { EventFd } from "../linux/event-fd.ts";
import { SuspendWatch } from "../linux/suspend-watch.ts";
import { type Uevent, UeventStream } from "../linux/uevents.ts";
import type { DeviceFile } from "./device-file.ts";
import { IrqIndex } from "./uapi.ts";

interface SignalHandlers {
  /** Somebody wants the function back; the kernel repeats it every 10 s. */
  readonly onRequest: () => void;
  readonly onError: () => void;
  /** The kernel's error recovery ended. */
  readonly onRecovery: (succeeded: boolean) => void;
  readonly onResume: (sleptMs: number) => void;
}

/** Arms everything that the device offers; disposal disarms it. */
export function armSignals(device: DeviceFile, address: string, handlers: SignalHandlers): Disposable {
  const stack = new DisposableStack();
  const arm = (index: typeof IrqIndex.ERR | typeof IrqIndex.REQ, handler: () => void): boolean => {
    const irq = device.irq(index);
    if (irq.count === 0 || !irq.eventfd) return false;
    const eventFd = stack.use(new EventFd());
    if (device.setEventfds(index, 0, [eventFd.fd.number]) !== 0) return false;
    stack.defer(() => {
      try {
        device.disableIrqs(index);
      } catch (error) {
        // A device that is gone has nothing to disarm.
        if (!isRing3Error(error)) throw error;
      }
    });
    eventFd.watch(() => handler(), { keepsAlive: false });
    return true;
  };
  try {
    arm(IrqIndex.REQ, handlers.onRequest);
    // VFIO says that an error happened, not how the recovery went: that comes as uevents only.
    if (arm(IrqIndex.ERR, handlers.onError)) {
      const uevents = stack.use(new UeventStream());
      uevents.listen((notice) => {
        if (notice.type !== "event") return;
        const outcome = recoveryOutcome(notice.event, address);
        if (outcome !== undefined) handlers.onRecovery(outcome);
      });
    }
    stack.use(new SuspendWatch()).listen(handlers.onResume);
    return stack.move();
  } finally {
    stack.dispose();
  }
}

/** Whether a uevent says that error recovery of this function ended, and how. */
export function recoveryOutcome({ subsystem, properties }: Uevent, address: string): boolean | undefined {
  if (subsystem !== "pci" || properties["PCI_SLOT_NAME"] !== address) return undefined;
  const event = properties["ERROR_EVENT"];
  return event === "SUCCESSFUL_RECOVERY" ? true : event === "FAILED_RECOVERY" ? false : undefined;
}
