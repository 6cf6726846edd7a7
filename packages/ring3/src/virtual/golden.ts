// The golden register map of a device model: all that a driver can see of its config space, as text to compare. A device's
// tests keep one per model version, so that nothing changes under a driver unnoticed.
import { barIndexes, barShape } from "./bar-registers.ts";
import { VirtualConfig } from "./config.ts";
import type { RegisterDescription } from "./config-description.ts";
import type { FunctionDeclaration } from "./declaration.ts";

const digits = (value: number, width: number): string => value.toString(16).padStart(width, "0");

function line(description: RegisterDescription): string {
  const { name, offset, width, reset, writable, oneToClear, kept, keptByFunctionReset } = description;
  const mask = (value: number): string => (value === 0 ? "-" : digits(value, 2 * width)).padEnd(8);
  const columns = [mask(reset), mask(writable), mask(oneToClear), mask(kept), mask(keptByFunctionReset)].join(" ");
  return `${digits(offset, 3)} ${name.padEnd(36)} ${columns}`.trimEnd();
}

/**
 * Every register of a declared function, one a line: offset, name, value after power-on, bits that software writes, bits
 * that it clears by writing one, bits that every reset keeps, and bits that a function-level reset keeps besides. `-` is 0.
 */
export function goldenMap(declaration: FunctionDeclaration): string {
  const config = new VirtualConfig(declaration);
  const { modelVersion = 1, vendorId, deviceId, classCode, revision = 0 } = declaration;
  const lines = [
    `${config.name} version ${modelVersion}: ${digits(vendorId, 4)}:${digits(deviceId, 4)} class ${digits(classCode, 6)} ` +
      `revision ${digits(revision, 2)}, ${config.size} bytes`,
  ];
  for (const index of barIndexes) {
    const bar = config.bars[index];
    if (bar === undefined) continue;
    const { kind, size, prefetchable } = barShape(bar);
    lines.push(`BAR ${index}: ${kind}${prefetchable ? " prefetchable" : ""} 0x${size.toString(16)}`);
  }
  const rom = config.barSize("rom");
  if (rom > 0) lines.push(`ROM: 0x${rom.toString(16)}`);
  lines.push(`${"at  register".padEnd(40)} reset    writable clear    kept     by flr`);
  for (const description of config.registers()) lines.push(line(description));
  return `${lines.join("\n")}\n`;
}
