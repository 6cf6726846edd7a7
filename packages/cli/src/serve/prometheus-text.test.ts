import assert from "node:assert/strict";
import test from "node:test";
import { prometheusText } from "./prometheus-text.ts";

test("help and type once, a line a sample, empty metrics left out", () => {
  const text = prometheusText([
    {
      name: "ring3_messages_total",
      help: "Messages by command.",
      kind: "counter",
      samples: [
        { labels: { command: "region_read" }, value: 3 },
        { labels: { command: "dma_map" }, value: 1 },
      ],
    },
    { name: "ring3_none", help: "Nothing.", kind: "gauge", samples: [] },
    { name: "ring3_connected", help: "Whether.", kind: "gauge", samples: [{ labels: {}, value: 1 }] },
  ]);
  assert.equal(
    text,
    [
      "# HELP ring3_messages_total Messages by command.",
      "# TYPE ring3_messages_total counter",
      'ring3_messages_total{command="region_read"} 3',
      'ring3_messages_total{command="dma_map"} 1',
      "# HELP ring3_connected Whether.",
      "# TYPE ring3_connected gauge",
      "ring3_connected 1",
      "",
    ].join("\n"),
  );
});

test("backslashes, quotes and ends of lines are escaped, in help texts quotes are not", () => {
  const sample = { labels: { path: 'a\\b"c\nd' }, value: Number.POSITIVE_INFINITY };
  const text = prometheusText([{ name: "x", help: 'say "x"\\\n', kind: "gauge", samples: [sample] }]);
  assert.equal(text, '# HELP x say "x"\\\\\\n\n# TYPE x gauge\nx{path="a\\\\b\\"c\\nd"} +Inf\n');
});
