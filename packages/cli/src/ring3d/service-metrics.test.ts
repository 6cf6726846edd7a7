import assert from "node:assert/strict";
import test from "node:test";
import type { ServerStatistics } from "ring3/vfio-user";
import { ALICE, EVERY_EVENT, FakeService, status } from "./fake-service.ts";
import { serviceMetrics } from "./service-metrics.ts";

/** Values by name and labels, each line of the text once, and each name with its type before it. */
function values(text: string): Record<string, number> {
  const found: Record<string, number> = {};
  const types = new Set<string>();
  for (const line of text.trimEnd().split("\n")) {
    const [, typed] = /^# TYPE (\S+) (?:counter|gauge)$/.exec(line) ?? [];
    if (typed !== undefined) {
      assert.ok(!types.has(typed), `${typed} has one type`);
      types.add(typed);
    }
    if (line.startsWith("#")) continue;
    const [, sample = "", name = "", value = ""] = /^((\w+)(?:\{.*\})?) (\S+)$/.exec(line) ?? [];
    assert.ok(types.has(name), line);
    assert.ok(!(sample in found), `${sample} is there once`);
    found[sample] = Number(value);
  }
  return found;
}

const statistics: ServerStatistics = {
  ...{
    messages: { VERSION: 1, REGION_READ: 7 },
    commandsSent: {},
    bytesReceived: 100,
    bytesSent: 200,
    errorReplies: 3,
  },
  ...{
    clients: 1,
    waiting: 0,
    connections: 1,
    refusals: 0,
    dmaMaps: 2,
    dmaMappedBytes: 8192,
    dmaMapsMade: 4,
    interrupts: 5,
    faults: 0,
  },
  ...{ polls: 0, polledWork: 0, stateSaves: 0 },
};

test("functions as they are, and what has happened to them since", () => {
  const used = status("disk", {
    state: "used",
    users: [ALICE],
    waiting: 1,
    lockedBytes: 4096,
    lockLimit: 8192,
    statistics,
  });
  const service = new FakeService(used, status("card", { address: "vfio-user:/run/card.sock", trace: "/t.jsonl" }));
  using metrics = serviceMetrics(service);
  for (const event of Object.values(EVERY_EVENT)) service.emit(event);
  service.emit({ ...EVERY_EVENT.rule, rule: "bus-master" });
  service.emit({ ...EVERY_EVENT.rule, rule: "bus-master" });
  const now = values(metrics.text());
  const expected = {
    'ring3d_function_info{function="card",address="vfio-user:/run/card.sock",rules="strict"}': 1,
    'ring3d_function_state{function="disk",state="used"}': 1,
    'ring3d_function_state{function="disk",state="failed"}': 0,
    'ring3d_function_state{function="card",state="ready"}': 1,
    'ring3d_users{function="disk"}': 1,
    'ring3d_users{function="card"}': 0,
    'ring3d_waiting{function="disk"}': 1,
    'ring3d_locked_bytes{function="disk"}': 4096,
    'ring3d_lock_limit_bytes{function="disk"}': 8192,
    'ring3d_traced{function="disk"}': 0,
    'ring3d_traced{function="card"}': 1,
    'ring3d_opens_total{function="disk"}': 1,
    'ring3d_opens_total{function="card"}': 0,
    'ring3d_refused_total{function="disk"}': 1,
    'ring3d_rule_hits_total{function="disk",rule="config-write"}': 1,
    'ring3d_rule_hits_total{function="disk",rule="bus-master"}': 2,
    'ring3d_resets_total{function="disk",cause="handover"}': 1,
    'ring3d_kicks_total{function="disk"}': 1,
    'ring3d_notices_total{function="disk",notice="suspend"}': 1,
    'ring3d_reloads_total{outcome="applied"}': 1,
    'ring3d_reloads_total{outcome="refused"}': 1,
    'ring3_received_bytes_total{function="disk"}': 100,
    'ring3_messages_total{function="disk",command="region_read"}': 7,
  };
  for (const [name, value] of Object.entries(expected)) assert.equal(now[name], value, name);
  assert.ok(!('ring3d_lock_limit_bytes{function="card"}' in now));
  // Every state is one line, and a function is in one of them.
  const states = Object.entries(now).filter(([name]) => name.startsWith('ring3d_function_state{function="disk"'));
  assert.equal(states.length, 7);
  assert.equal(
    states.reduce((sum, [, value]) => sum + value, 0),
    1,
  );
});

test("a function that is gone is not shown, and nothing is counted after the end", () => {
  const service = new FakeService(status("disk"));
  const metrics = serviceMetrics(service);
  service.emit(EVERY_EVENT.opened);
  service.list = [status("card")];
  assert.doesNotMatch(metrics.text(), /function="disk"/);
  metrics[Symbol.dispose]();
  assert.equal(service.listeners, 0);
});

test("names that need quotes are quoted", () => {
  using metrics = serviceMetrics(new FakeService(status('odd"name\\')));
  assert.ok(metrics.text().includes('ring3d_users{function="odd\\"name\\\\"} 0\n'));
});
