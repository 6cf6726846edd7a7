// The tap that does nothing: what a tap is made of that wants only some of it.
import {
  type Area,
  type BytesTarget,
  type DeviceWrite,
  type FunctionTap,
  type Happening,
  type InterruptKind,
  readFrom,
  type Target,
  type Width,
  type WideTarget,
  writeTo,
} from "./tap.ts";

export class PassingTap implements FunctionTap {
  read(_area: Area, target: Target, offset: number, width: Width): number {
    return readFrom(target, offset, width);
  }
  write(_area: Area, target: Target, offset: number, width: Width, value: number): void {
    writeTo(target, offset, width, value);
  }
  read64(_area: Area, target: WideTarget, offset: number): bigint {
    return target.read64(offset);
  }
  write64(_area: Area, target: WideTarget, offset: number, value: bigint): void {
    target.write64(offset, value);
  }
  readBytes(_area: Area, target: BytesTarget, offset: number, size: number): Uint8Array {
    return target.readBytes(offset, size);
  }
  writeBytes(_area: Area, target: BytesTarget, offset: number, bytes: Uint8Array): void {
    target.writeBytes(offset, bytes);
  }
  interrupt(_kind: InterruptKind, _vector: number, count: number): number {
    return count;
  }
  deviceWrote(_written: DeviceWrite): void {}
  happened(_what: Happening): void {}
  ended(_reason: Error): void {}
}
