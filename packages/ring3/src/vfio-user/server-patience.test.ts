import assert from "node:assert/strict";
import { test } from "node:test";
import { Patience } from "./server-patience.ts";

test("one answer may take as long as all of them together", () => {
  const patience = new Patience(2000, 0);
  assert.equal(patience.at(0), 2000);
  patience.spent(1905);
  assert.equal(patience.at(1905), 100);
  patience.spent(2100);
  assert.equal(patience.at(2100), 0);
});

test("answers that come at once cost nothing, however many", () => {
  const patience = new Patience(2000, 0);
  for (let at = 0; at < 10_000; at += 5) {
    assert.equal(patience.at(at), 2000);
    patience.spent(at + 5);
  }
});

test("slow answers exhaust it, and it comes back in time", () => {
  const patience = new Patience(300, 0);
  let at = 0;
  let answers = 0;
  for (; patience.at(at) > 0; answers++) patience.spent((at += 55));
  assert.equal(answers, 6);
  assert.equal(patience.at(at + 1000), 100);
  assert.equal(patience.at(at + 100_000), 300);
});

test("a clock that stands still or runs backwards gives nothing away", () => {
  const patience = new Patience(100, 50);
  assert.equal(patience.at(10), 100);
  patience.spent(5);
  assert.equal(patience.at(5), 100);
});

test("what the server spends elsewhere is not the client's", () => {
  const patience = new Patience(300, 0);
  assert.equal(patience.at(0), 300);
  patience.excuse(20, 1020);
  patience.spent(1055);
  assert.equal(patience.at(1055), 250);
});

test("an answer that was awaited in the middle of that is counted once", () => {
  const patience = new Patience(300, 0);
  assert.equal(patience.at(0), 300);
  // Busy from 10 to 500; from 100 to 155 an answer was awaited.
  assert.equal(patience.at(100), 300);
  patience.spent(155);
  patience.excuse(10, 500);
  patience.spent(555);
  assert.equal(patience.at(555), 200);
});
