// ring3 nvme smart: the health log.
import { type Command, command } from "../../command.ts";
import { OPEN_OPTIONS } from "../../open-function.ts";
import { columns, hex } from "../../text.ts";
import { CONTROLLER, startNvme } from "./session.ts";

/** A data unit of the log is a thousand blocks of 512 bytes. NVMe base 2.0, figure 207. */
const DATA_UNIT_BYTES = 512_000;
const ZERO_CELSIUS_KELVIN = 273;
const WARNINGS = [
  "available spare below threshold",
  "temperature outside its thresholds",
  "reliability degraded",
  "read only",
  "volatile memory backup failed",
  "persistent memory region unreliable",
] as const;

export const smart: Command = command({
  summary: "show the health log (SMART)",
  operands: [CONTROLLER],
  options: OPEN_OPTIONS,
  examples: [
    { command: "ring3 nvme smart 01:00.0", text: "temperature, wear, amounts read and written, errors" },
    { command: "ring3 nvme smart 01:00.0 --json | jq .health.PERCENTAGE_USED", text: "wear in percent" },
  ],
  run: async ({ operands, options }, context) => {
    await using session = await startNvme(operands[0] ?? "", options, context);
    const { driver, address } = session;
    const health = await context.unlessAborted(driver.smart());
    const warnings = WARNINGS.filter((_, bit) => (health.CRITICAL_WARNING & (1 << bit)) !== 0);
    context.result({ address, warnings, health }, () => {
      const celsius = (kelvin: number): string => `${kelvin - ZERO_CELSIUS_KELVIN} °C`;
      const amount = (units: bigint): string =>
        `${((Number(units) * DATA_UNIT_BYTES) / 1e9).toFixed(1)} GB (${units} units)`;
      const sensors = health.TEMPERATURE_SENSORS.filter((kelvin) => kelvin !== 0).map(celsius);
      const { style } = context;
      const rows: [string, string][] = [
        [
          "critical warning",
          warnings.length === 0
            ? style.green("none")
            : style.red(`${hex(health.CRITICAL_WARNING, 2)}: ${warnings.join(", ")}`),
        ],
        ["temperature", celsius(health.COMPOSITE_TEMPERATURE)],
        ...(sensors.length > 0 ? ([["sensors", sensors.join(", ")]] as [string, string][]) : []),
        ["available spare", `${health.AVAILABLE_SPARE} % (threshold ${health.AVAILABLE_SPARE_THRESHOLD} %)`],
        ["used", `${health.PERCENTAGE_USED} %`],
        ["read", amount(health.DATA_UNITS_READ)],
        ["written", amount(health.DATA_UNITS_WRITTEN)],
        ["read commands", `${health.HOST_READ_COMMANDS}`],
        ["write commands", `${health.HOST_WRITE_COMMANDS}`],
        ["busy", `${health.CONTROLLER_BUSY_TIME} min`],
        ["power cycles", `${health.POWER_CYCLES}`],
        ["powered on", `${health.POWER_ON_HOURS} h`],
        ["unsafe shutdowns", `${health.UNSAFE_SHUTDOWNS}`],
        ["media errors", `${health.MEDIA_ERRORS}`],
        ["error log entries", `${health.ERROR_LOG_ENTRIES}`],
      ];
      return `${context.style.bold(address)}\n${columns(rows, { indent: 2 })}`;
    });
  },
});
